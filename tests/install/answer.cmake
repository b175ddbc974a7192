# SPDX-License-Identifier: Apache-2.0
# Lets hipattn-run, built as a project of its own against the installed package, answer from a tiny model, and reads what it
# writes: cmake -DPROGRAM=... -DMODEL=... -DWORK=... -P answer.cmake
cmake_minimum_required(VERSION 3.25)

function(answer json)
  execute_process(COMMAND ${PROGRAM} --model ${MODEL} --prompt "In the beginning" --ignore-end --max-new-tokens 5 --threads 2
                          --json ${WORK}/answer.json ${ARGN}
                  RESULT_VARIABLE exit_code OUTPUT_QUIET ERROR_VARIABLE complaint)
  if(NOT exit_code EQUAL 0)
    message(FATAL_ERROR "hipattn-run ${ARGN}: ${exit_code}\n${complaint}")
  endif()
  file(READ ${WORK}/answer.json result)
  set(${json} "${result}" PARENT_SCOPE)
endfunction()

# expect(JSON WANT KEY...): the value at a path of keys.
function(expect json want)
  string(JSON value GET "${json}" ${ARGN})
  if(NOT value STREQUAL want)
    message(FATAL_ERROR "${ARGN} is '${value}', want '${want}'")
  endif()
endfunction()

function(expect_above json least)
  string(JSON value GET "${json}" ${ARGN})
  if(NOT value GREATER least)
    message(FATAL_ERROR "${ARGN} is '${value}', want more than ${least}")
  endif()
endfunction()

answer(dense --attention dense)
string(JSON num_ids LENGTH "${dense}" token_ids)
if(NOT num_ids EQUAL 5)
  message(FATAL_ERROR "${num_ids} token_ids, want 5")
endif()
expect("${dense}" 5 new_tokens)
expect("${dense}" 4 decode_steps)
expect("${dense}" 2 threads)
expect("${dense}" dense attention)
expect_above("${dense}" 5 prompt_tokens)
expect_above("${dense}" 0 kv_bytes)
foreach(key prefill_seconds decode_seconds decode_tokens_per_second)
  expect_above("${dense}" 0 ${key})
endforeach()

# A budget that covers the text gives the same answer; one that does not attends less of it, and searches.
answer(covered --attention sparse)
string(JSON ids GET "${dense}" token_ids)
expect("${covered}" "${ids}" token_ids)
answer(sparse --attention sparse --depth 2000 --budget-tokens 128 --window-tokens 64 --sink-tokens 16)
string(JSON share GET "${sparse}" attended_share)
if(NOT share GREATER 0.05 OR NOT share LESS 0.15) # (128 + 64 + 16) of 2000 and the prompt, about a tenth
  message(FATAL_ERROR "attended_share is ${share}, want about 0.1")
endif()
expect_above("${sparse}" 0 stats search_keys_read)
