# SPDX-License-Identifier: Apache-2.0
# hipattn_warnings(target): the warnings every target of ours is built with.
function(hipattn_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wconversion -Wshadow $<$<BOOL:${HIPATTN_DEV}>:-Werror>)
endfunction()
