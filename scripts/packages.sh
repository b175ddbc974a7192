#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The system packages hipattn is built, tested and tried with, in one place. Installs those that are missing.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/packages.sh [--list] GROUP...
Installs the missing packages of the groups with apt-get (by sudo when not root).
  build   the library                       examples  hipattn-run as well
  test    tests and style checks            fuzz      clang with libFuzzer
  assets  what fetch_assets.sh needs        bench     hipattn-bench
  --list  prints the packages instead
Made for Debian 12. Ubuntu 24.04 is known by its package names, but was never tried.
TEXT
}

declare -A packages=(
  [build]="cmake g++ ninja-build pkg-config libtbb-dev libhwloc-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libxxhash-dev liburing-dev"
  [examples]="libcli11-dev libpcre2-dev libopenblas-pthread-dev"
  [test]="libgtest-dev libgmock-dev python3 python3-numpy binutils shellcheck clang-format-14 clang-tidy-14 doxygen"
  [assets]="python3 python3-pip unzip ca-certificates bible-kjv"
  [bench]="libbenchmark-dev python3"
)
distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown}") || distribution=unknown
case $distribution in
  ubuntu) packages[fuzz]="clang-18 libclang-rt-18-dev" ;;
  *) packages[fuzz]="clang-16 libclang-rt-16-dev" ;;
esac

list_only=false
wanted=()
while [ $# -gt 0 ]; do
  case $1 in
    --list) list_only=true ;;
    -h | --help) usage; exit 0 ;;
    *)
      if [ -z "${packages[$1]:-}" ]; then
        echo "packages.sh: unknown group or option '$1'; --help lists them" >&2
        exit 2
      fi
      read -ra group <<<"${packages[$1]}"
      wanted+=("${group[@]}")
      ;;
  esac
  shift
done
if [ ${#wanted[@]} -eq 0 ]; then
  usage >&2
  exit 2
fi
mapfile -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)
if $list_only; then
  printf '%s\n' "${wanted[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "packages.sh: no apt-get here ($distribution), so nothing is installed. What is needed, by its Debian names:" >&2
  echo "  ${wanted[*]}" >&2
  exit 0 # the build says what is missing
fi
missing=()
for package in "${wanted[@]}"; do
  if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
    missing+=("$package")
  fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "Installing with apt-get: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "packages.sh: not root, and no sudo. As root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
  [ -t 0 ] || as_root=(sudo -n)
fi
if ! { "${as_root[@]}" apt-get update -q &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } </dev/null; then
  echo "packages.sh: apt-get failed. As root, run: apt-get update && apt-get install ${missing[*]}" >&2
  exit 1
fi
