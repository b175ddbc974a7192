#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The hipattn authors
#
# Builds llama.cpp and llama_depth, our timer for it, into DIR:
#   bench/peers/build_llama.sh DIR
# llama.cpp is taken from the source package llama-cpp-python on the Python package index (pip's own
# settings say where that is), at a pinned version and hash, and built for this machine's processor.
# Needs: pip, cmake, a C++ compiler. JOBS=N sets the number of compile jobs (default: all CPUs).
# A second run builds only what changed. Result: DIR/llama_depth.
set -euo pipefail

readonly version=0.3.36
readonly sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

if [[ $# -ne 1 ]]; then
  sed -n '5,10s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
package=llama_cpp_python-$version
archive=$dir/$package.tar.gz
source=$dir/$package/vendor/llama.cpp
jobs=${JOBS:-$(nproc)}

if [[ ! -f $archive ]]; then
  # --no-binary names only this package: with :all: pip would build its build tools, too.
  python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$dir" \
    "llama-cpp-python==$version"
fi
echo "$sha256  $archive" | sha256sum --check --quiet
if [[ ! -d $source ]]; then
  tar -xzf "$archive" -C "$dir"
fi

cmake -S "$source" -B "$dir/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
  -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_COMMON=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
  -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF >"$dir/cmake.log"
cmake --build "$dir/build" --target llama --parallel "$jobs" >"$dir/build.log"

# shellcheck disable=SC2016  # $ORIGIN is for the dynamic linker
"${CXX:-c++}" -std=c++20 -O2 -Wall -Wextra -o "$dir/llama_depth" "$here/llama_depth.cc" \
  -I"$source/include" -I"$source/ggml/include" \
  -L"$dir/build/bin" -lllama -lggml -lggml-base -Wl,-rpath,'$ORIGIN/build/bin'
echo "$dir/llama_depth"
