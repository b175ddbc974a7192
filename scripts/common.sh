# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it: where the tree is, how much runs at once, what to say when something fails.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
script=$(basename "$0")

say() { printf '\n== %s\n' "$*"; }
die() {
  echo "$script: $*" >&2
  exit 1
}

# Compilers at once: one per CPU we may use, and per 1.5 GB of memory.
parallel_jobs() {
  local cpus memory_jobs
  cpus=$(nproc)
  memory_jobs=$(awk '/^MemAvailable/ {n = int($2 / 1500000); print n < 1 ? 1 : n}' /proc/meminfo)
  echo $((cpus < memory_jobs ? cpus : memory_jobs))
}

# need_disk FOLDER MEGABYTES: says so now rather than in the middle of a build.
need_disk() {
  local free
  mkdir -p "$1" || die "cannot create $1"
  free=$(df -Pm "$1" | awk 'NR == 2 {print $4}')
  [ "$free" -ge "$2" ] || die "$1 has $free MB free, $2 MB are needed"
}

# configure FOLDER PRESET [cmake option...]: quiet unless it fails.
configure() {
  local folder=$1 preset=$2 options=()
  shift 2
  [ -e "$folder/CMakeCache.txt" ] || options+=(-G Ninja)
  if command -v ccache >/dev/null; then
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  mkdir -p "$folder"
  if ! cmake -S "$root" -B "$folder" --preset "$preset" "${options[@]}" "$@" >"$folder/configure.log" 2>&1; then
    cat "$folder/configure.log" >&2
    die "cmake failed, its output is above and in $folder/configure.log"
  fi
}
