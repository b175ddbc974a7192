#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds hipattn and passes its tests, from a machine that has nothing installed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/test.sh [--quick | --long] [--jobs N] [--build-dir DIR]
Installs missing packages, builds with warnings as errors, runs every test. Stages:
  fetch       the model and the text for the tests labelled `model`
  build       release build of library, tests, examples (preset dev)
  asan-ubsan  tests under AddressSanitizer and UndefinedBehaviorSanitizer
  tsan        tests that use threads, under ThreadSanitizer
  fuzz        each fuzz target for 60 seconds; --long: for half an hour as well
  tidy        clang-tidy over src and examples (--long only)
  tests       all tests of the release build but `long` ones; its summary is the end of the output
  --quick     build and tests only, without those labelled `model`: minutes
  --long      adds the tests labelled `long` and half an hour for each fuzz target
  --jobs N    compilers and tests at once; default: CPUs, less when memory is short
  --build-dir DIR   default: build, in the source tree
The sanitizer builds take the longest; ccache, where it is installed, makes the next run shorter.
TEXT
}

mode=full
jobs=
build_dir=$root/build
while [ $# -gt 0 ]; do
  case $1 in
    --quick) mode=quick ;;
    --long) mode=long ;;
    --jobs | --build-dir)
      [ $# -ge 2 ] || die "$1 needs a value"
      if [ "$1" = --jobs ]; then jobs=$2; else build_dir=$2; fi
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) echo "test.sh: unknown option '$1'; --help lists them" >&2; exit 2 ;;
  esac
  shift
done
[[ ${jobs:-1} =~ ^[1-9][0-9]*$ ]] || die "--jobs is '$jobs', need a positive number"
mkdir -p "$build_dir" || die "cannot create $build_dir"
build_dir=$(cd "$build_dir" && pwd)
cd "$root"

started=$SECONDS
failed=()
# stage NAME COMMAND...: goes on when it fails, so that one run tells everything.
stage() {
  local name=$1 begun=$SECONDS
  shift
  say "$name"
  if "$@" 2>&1 | tee "$build_dir/$name.log"; then
    say "$name: passed, $((SECONDS - begun)) s"
  else
    say "$name: FAILED, $((SECONDS - begun)) s"
    failed+=("$name")
  fi
}

# Ends the run when a stage failed: what it said is far up by then, so the telling lines come again.
end_if_failed() {
  local name
  [ ${#failed[@]} -gt 0 ] || return 0
  for name in "${failed[@]}"; do
    [ -e "$build_dir/$name.log" ] || continue
    say "$name: from $build_dir/$name.log"
    grep -nE 'ERROR|SUMMARY|FAILED|[Ff]ailed|error:|ALARM|\*\*\*[A-Z]|^ +#[0-9] |last error|Test unit written' \
      "$build_dir/$name.log" | cut -c1-240 | tail -n 60 || true
  done
  die "failed: ${failed[*]}"
}

build() { # PRESET [cmake option...]
  local preset=$1
  configure "$build_dir/$preset" "$@"
  "${fixed_addresses[@]}" cmake --build "$build_dir/$preset" --parallel "$jobs"
}

run_ctest() { # PRESET [ctest option...]
  local preset=$1
  shift
  (cd "$build_dir/$preset" && "${fixed_addresses[@]}" ctest --output-on-failure --no-tests=error --parallel "$jobs" "$@")
}

sanitized() { # PRESET [ctest option...]; hipattn-run is left to the fuzzers, which have AddressSanitizer, too
  local preset=$1
  shift
  build "$preset" -DHIPATTN_EXAMPLES=OFF && run_ctest "$preset" -LE 'long|model' "$@"
}

fuzz() {
  local compiler=clang-16
  command -v "$compiler" >/dev/null || compiler=clang-18
  configure "$build_dir/fuzz" fuzz -DCMAKE_C_COMPILER="$compiler" -DCMAKE_CXX_COMPILER="${compiler/clang/clang++}"
  cmake --build "$build_dir/fuzz" --parallel "$jobs" --target hipattn_fuzzers && run_ctest fuzz -L fuzz "$@"
}

groups=(build examples test)
[ "$mode" = quick ] || groups+=(assets fuzz)
say "packages"
scripts/packages.sh "${groups[@]}"
jobs=${jobs:-$(parallel_jobs)}
if [ "$mode" = quick ]; then need_disk "$build_dir" 1500; else need_disk "$build_dir" 4000; fi
# ThreadSanitizer gives up where the system scatters addresses widely.
fixed_addresses=()
if setarch "$(uname -m)" -R true 2>/dev/null; then
  fixed_addresses=(setarch "$(uname -m)" -R)
fi

if [ "$mode" != quick ]; then
  stage fetch scripts/fetch_assets.sh
fi
stage build build dev
end_if_failed
if [ "$mode" != quick ]; then
  stage asan-ubsan sanitized asan-ubsan
  stage tsan sanitized tsan -R 'Thread|Executor|Engine|Cancel|CApi|SlotPool|Log|Device|seeded'
  if [ "$mode" = long ]; then stage fuzz fuzz; else stage fuzz fuzz -LE long; fi
  [ "$mode" != long ] || stage tidy run_ctest dev -L tidy
fi

case $mode in
  quick) exclude='long|tidy|model' ;;
  full) exclude='long|tidy' ;;
  long) exclude='tidy' ;;
esac
say "tests (after $(((SECONDS - started) / 60)) minutes)"
run_ctest dev -LE "$exclude" --no-label-summary || failed+=(tests)
end_if_failed
