# SPDX-License-Identifier: Apache-2.0
# The fuzzer of the GGUF reader of examples/run. The files under test are compiled here once more, to be seen by libFuzzer.
if(NOT HIPATTN_EXAMPLES)
  return()
endif()
find_package(PkgConfig REQUIRED)
pkg_check_modules(FUZZ_PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
set(run ${PROJECT_SOURCE_DIR}/examples/run)
add_executable(fuzz_gguf fuzz_gguf.cc ${run}/bpe.cc ${run}/dequantize.cc ${run}/gguf.cc ${run}/llama_model.cc
               ${run}/mapped_file.cc ${run}/pieces.cc ${run}/pretokenizer.cc ${run}/quant_matvec.cc ${run}/quant_matvec_avx2.cc
               ${run}/tensor_type.cc ${run}/tokenizer.cc ${run}/utf8.cc)
target_include_directories(fuzz_gguf PRIVATE ${run})
target_link_libraries(fuzz_gguf PRIVATE PkgConfig::FUZZ_PCRE2)
hipattn_warnings(fuzz_gguf)
hipattn_fuzz_tests(fuzz_gguf FOLDER ${CMAKE_CURRENT_BINARY_DIR}/gguf_seeds FIXTURE gguf_seeds)
add_test(NAME write_gguf_seeds COMMAND write_gguf_corpus ${CMAKE_CURRENT_BINARY_DIR}/gguf_seeds)
set_tests_properties(write_gguf_seeds PROPERTIES FIXTURES_SETUP gguf_seeds LABELS fuzz)
