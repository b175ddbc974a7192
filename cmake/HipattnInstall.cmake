# SPDX-License-Identifier: Apache-2.0
# cmake --install: headers, libraries, CMake package, pkg-config file, licence.
# The two libraries are exported apart, because only the static one makes its users look for its dependencies.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(hipattn_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/hipattn)
foreach(kind static shared)
  if(NOT TARGET hipattn_${kind})
    continue()
  endif()
  install(TARGETS hipattn_${kind} EXPORT hipattn_${kind}_targets
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT hipattn_${kind}_targets NAMESPACE hipattn:: FILE hipattn-${kind}-targets.cmake
          DESTINATION ${hipattn_package_dir})
endforeach()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/hipattn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/hipattn-config.cmake.in
                              ${PROJECT_BINARY_DIR}/hipattn-config.cmake INSTALL_DESTINATION ${hipattn_package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/hipattn-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/hipattn-config.cmake ${PROJECT_BINARY_DIR}/hipattn-config-version.cmake
        DESTINATION ${hipattn_package_dir})

# The prefix in the file is relative to the file, so that an installed tree can be moved. (An absolute libdir cannot.)
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(HIPATTN_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  set(HIPATTN_PC_LIBDIR ${CMAKE_INSTALL_LIBDIR})
else()
  file(RELATIVE_PATH hipattn_pc_up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" hipattn_pc_up ${hipattn_pc_up})
  set(HIPATTN_PC_PREFIX "\${pcfiledir}/${hipattn_pc_up}")
  set(HIPATTN_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
# What a program linked with libhipattn.a needs, as flags and not as Requires.private: pkg-config --static would follow hwloc's own
# private libraries (-ludev, ...), which only a wholly static program needs, and oneTBB cannot be in one.
string(JOIN " " HIPATTN_PC_LIBS_PRIVATE ${HWLOC_LDFLAGS} ${URING_LDFLAGS})
if(HIPATTN_TBB)
  string(APPEND HIPATTN_PC_LIBS_PRIVATE " -ltbb")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/hipattn.pc.in ${PROJECT_BINARY_DIR}/hipattn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/hipattn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
