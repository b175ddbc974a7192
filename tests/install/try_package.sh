#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs a project against an installed hipattn.
#   try_package.sh STAGE WORK cmake PROJECT [cmake option...]     by find_package; runs the project's ctest
#   try_package.sh STAGE WORK pkg-config PROJECT shared|static    by pkg-config, with the compiler alone
#   try_package.sh STAGE WORK contents                            that everything is in its place
set -euo pipefail
stage=$1 work=$2 how=$3
libdir=$stage/${LIBDIR:-lib}
rm -rf "$work" && mkdir -p "$work"

fail() { echo "try_package.sh: $*" >&2; exit 1; }

needs_shared() { readelf -d "$1" | grep -q 'NEEDED.*libhipattn\.so'; }

check_kind() { # program kind
  if [ "$2" = shared ]; then
    needs_shared "$1" || fail "$1 should need libhipattn.so"
  elif needs_shared "$1"; then
    fail "$1 was to be linked statically, but needs libhipattn.so"
  fi
}

case $how in
  cmake)
    project=$4; shift 4
    generator=()
    if command -v ninja >/dev/null; then generator=(-G Ninja); fi
    cmake -S "$project" -B "$work" "${generator[@]}" -DCMAKE_PREFIX_PATH="$stage" -DCMAKE_BUILD_TYPE=Release "$@"
    grep -q "hipattn_DIR:PATH=$libdir/cmake/hipattn" "$work/CMakeCache.txt" || fail "another hipattn was found: $(grep hipattn_DIR "$work/CMakeCache.txt")"
    cmake --build "$work"
    (cd "$work" && ctest --output-on-failure --no-tests=error)
    for option in "$@"; do
      case $option in -DHIPATTN_KIND=*) check_kind "$work/consumer" "${option#*=}" ;; esac
    done
    ;;
  pkg-config)
    project=$4 kind=$5
    export PKG_CONFIG_PATH=$libdir/pkgconfig
    case $project in
      *_c) compile=("${CC:-cc}" -std=c11) source=$project/main.c ;;
      *) compile=("${CXX:-c++}" -std=c++20) source=$project/main.cc ;;
    esac
    cflags=$(pkg-config --cflags hipattn)
    if [ "$kind" = static ]; then # both kinds are installed, and a linker prefers the shared one: name the archive
      libs=$(pkg-config --static --libs hipattn)
      libs=${libs/-lhipattn/-l:libhipattn.a}
    else
      libs="$(pkg-config --libs hipattn) -Wl,-rpath,$libdir"
    fi
    # shellcheck disable=SC2086 # flags are words
    "${compile[@]}" $cflags "$source" -o "$work/consumer" $libs
    "$work/consumer"
    check_kind "$work/consumer" "$kind"
    ;;
  contents)
    for file in include/hipattn/hipattn.h include/hipattn/hipattn.hpp "${libdir#"$stage"/}"/{libhipattn.a,libhipattn.so,pkgconfig/hipattn.pc} \
      "${libdir#"$stage"/}"/cmake/hipattn/hipattn-config{,-version}.cmake share/doc/hipattn/LICENSE; do
      [ -s "$stage/$file" ] || fail "$file is not installed"
    done
    readelf -d "$libdir/libhipattn.so" | grep -q 'SONAME.*libhipattn\.so\.[0-9]*\]' || fail "libhipattn.so has no soname with the major version"
    exported=$(nm --dynamic --defined-only "$libdir/libhipattn.so" | awk '$3 !~ /^hipattn_/ {print $3}')
    [ -z "$exported" ] || fail "libhipattn.so exports more than the C API: $exported"
    [ "$(nm --dynamic --defined-only "$libdir/libhipattn.so" | grep -c ' hipattn_')" -ge 20 ] || fail "libhipattn.so exports too little"
    if grep -rIl "$stage" "$stage"; then
      fail "the files above name the folder of the installation, so it cannot be moved"
    fi
    ;;
  *) fail "unknown mode '$how'" ;;
esac
