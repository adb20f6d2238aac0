# The rules of this repository that no compiler checks: who may include whom, what stays behind a
# seam, how long a file may be. Run by ctest (unit/tidy) and by `./dev lint`:
#   cmake -D ROOT=<repository> -P tests/tidy.cmake
# Prints every violation as file:line: rule: what to do, and fails if there is one.
cmake_minimum_required(VERSION 3.25)

if(NOT IS_DIRECTORY "${ROOT}/daemon")
  message(FATAL_ERROR "tidy: ROOT is \"${ROOT}\"; pass -D ROOT=<the repository>, which has daemon/")
endif()

# --- The arrows -----------------------------------------------------------------------------------
# What a folder (or intake.*) may include besides itself: a folder ends in "/", anything else is one
# header. The other files of daemon/ itself are the composition root and include what they like.
set(may_include_core "")
set(may_include_observe core/)
set(may_include_listen observe/ core/)
set(may_include_parse observe/ core/)
set(may_include_admit observe/ core/)
set(may_include_spool admit/id_filter.h observe/ core/)
set(may_include_forward spool/store.h spool/settler.h observe/ core/)
set(may_include_control observe/ core/)
set(may_include_operate parse/ spool/ control/ observe/ core/)
set(may_include_config
  listen/options.h parse/options.h admit/options.h spool/options.h spool/disk_plan.h forward/options.h
  control/options.h core/)
set(may_include_cli config/ spool/offline.h admit/dedupe.h core/)
set(may_include_intake intake.h listen/inlet.h parse/ admit/ spool/ observe/ core/)

# What a folder's library may link; what daemon/CMakeLists.txt makes is the composition root.
set(may_link_core "")
set(may_link_observe core)
set(may_link_listen observe core)
set(may_link_parse observe core)
set(may_link_admit observe core)
set(may_link_spool admit observe core)
set(may_link_forward spool observe core)
set(may_link_control observe core)
set(may_link_operate parse spool control observe core)
set(may_link_config core)
set(may_link_cli config spool admit core)

# --- Reading --------------------------------------------------------------------------------------
set(violations 0)

# Not message(SEND_ERROR): every violation is one line, and all of them are printed.
function(violation place rule advice)
  message("${place}: ${rule}: ${advice}")
  math(EXPR violations "${violations} + 1")
  set(violations ${violations} PARENT_SCOPE)
endfunction()

# The number of the line in which the byte at `offset` of `text` is.
function(line_at text offset result)
  string(SUBSTRING "${text}" 0 ${offset} before)
  string(REGEX MATCHALL "\n" newlines "${before}")
  list(LENGTH newlines line)
  math(EXPR line "${line} + 1")
  set(${result} ${line} PARENT_SCOPE)
endfunction()

# One violation per place where `text` matches `pattern`.
function(report_matches file text pattern rule advice)
  set(line 1)
  while(text MATCHES "${pattern}")
    set(found "${CMAKE_MATCH_0}")
    string(FIND "${text}" "${found}" offset)
    line_at("${text}" ${offset} within)
    math(EXPR here "${line} + ${within} - 1")
    # A pattern may begin with the newline before the place it is about.
    if(found MATCHES "^\n")
      math(EXPR here "${here} + 1")
    endif()
    violation("${file}:${here}" "${rule}" "${advice}")
    string(LENGTH "${found}" length)
    math(EXPR next "${offset} + ${length}")
    string(SUBSTRING "${text}" 0 ${next} passed)
    string(REGEX MATCHALL "\n" newlines "${passed}")
    list(LENGTH newlines count)
    math(EXPR line "${line} + ${count}")
    string(SUBSTRING "${text}" ${next} -1 text)
  endwhile()
  set(violations ${violations} PARENT_SCOPE)
endfunction()

file(GLOB_RECURSE cpp_files RELATIVE "${ROOT}" "${ROOT}/daemon/*.h" "${ROOT}/daemon/*.cpp"
  "${ROOT}/tests/*.h" "${ROOT}/tests/*.cpp" "${ROOT}/bench/*.h" "${ROOT}/bench/*.cpp")
set(daemon_files ${cpp_files})
list(FILTER daemon_files INCLUDE REGEX "^daemon/")
if(NOT daemon_files)
  message(FATAL_ERROR "tidy: no C++ file under ${ROOT}/daemon; is ROOT the repository?")
endif()

foreach(file IN LISTS cpp_files)
  file(READ "${ROOT}/${file}" text_${file})
  # Comments may name what code must not do; line numbers stay.
  string(REGEX REPLACE "//[^\n]*" "" code_${file} "${text_${file}}")
endforeach()

# forbid(RULE PATTERN ALLOWED ADVICE FILE...): PATTERN in the code of a file whose path does not
# match ALLOWED.
function(forbid rule pattern allowed advice)
  foreach(file IN LISTS ARGN)
    if(NOT file MATCHES "${allowed}")
      report_matches("${file}" "${code_${file}}" "${pattern}" "${rule}" "${advice}")
    endif()
  endforeach()
  set(violations ${violations} PARENT_SCOPE)
endfunction()

# --- What stays behind a seam ---------------------------------------------------------------------
set(nowhere "^$")
set(not_a_member "[^a-zA-Z0-9_.>]")  # before a C function's name; also lets std:: and :: through
forbid(rocksdb "#include <rocksdb/" "^daemon/spool/rocks_[a-z_]+\\.cpp$"
  "only daemon/spool/rocks_*.cpp includes RocksDB; use spool/store.h" ${daemon_files})
forbid(cli11 "#include <CLI/" "^daemon/cli/command\\.cpp$"
  "CLI11 is slow to compile; only daemon/cli/command.cpp includes it: use cli/command.h" ${daemon_files})
forbid(beast "#include <boost/beast" "\\.cpp$"
  "Beast is slow to compile; include it in a .cpp file" ${daemon_files})
forbid(format_to "format_to\\(" "${nowhere}"
  "it is compiled anew in each object: use fmt::format, or append the pieces" ${daemon_files})
forbid(umbrella "#include <boost/(asio|beast)\\.hpp>" "${nowhere}"
  "include the narrowest header" ${daemon_files})
forbid(iostream "#include <iostream>" "${nowhere}"
  "log through core/log.h; commands print with fmt" ${daemon_files})
forbid(environment "${not_a_member}(secure_)?getenv *\\("
  "^daemon/(core/log|config/[a-z_]+|main)\\.cpp$" "the environment is read by daemon/config" ${daemon_files})
forbid(clock
  "(system_clock|steady_clock|high_resolution_clock)::now|clock_gettime *\\(|gettimeofday *\\("
  "^daemon/core/system_clock\\.cpp$" "take a Clock& and ask it" ${daemon_files})
forbid(random "random_device|mt19937|${not_a_member}s?rand *\\(|getrandom *\\(|RAND_bytes *\\("
  "^daemon/core/random\\.cpp$" "take an Rng& and ask it" ${daemon_files})
forbid(sleep "this_thread::sleep|nanosleep *\\(|${not_a_member}usleep *\\(|[ (;]::sleep *\\("
  "${nowhere}" "wait with Clock::sleep_until or core/signal.h" ${daemon_files})
forbid(detached "asio::detached" "${nowhere}"
  "spawn in a TaskGroup, so that the coroutine has an owner" ${daemon_files})
forbid(test-code "#include <doctest|#include \"(support|sim|tests)/" "${nowhere}"
  "the daemon does not know its tests" ${daemon_files})

# --- Include arrows -------------------------------------------------------------------------------
# The folder of a header or source below daemon/: spool/store.h is in spool, intake.cpp in intake,
# relay.h in root.
function(folder_of path result)
  if(path MATCHES "^([a-z_]+)/")
    set(${result} "${CMAKE_MATCH_1}" PARENT_SCOPE)
  elseif(path MATCHES "^intake\\.")
    set(${result} intake PARENT_SCOPE)
  else()
    set(${result} root PARENT_SCOPE)
  endif()
endfunction()

function(check_include file folder header place)
  if(NOT EXISTS "${ROOT}/daemon/${header}")
    violation("${place}" include "\"${header}\" is no file below daemon/; paths start there")
  elseif(folder STREQUAL root)
    return()
  else()
    folder_of("${header}" target)
    if(target STREQUAL folder)
      return()
    endif()
    foreach(allowed IN LISTS may_include_${folder})
      if(header STREQUAL allowed OR (allowed MATCHES "/$" AND "${target}/" STREQUAL allowed))
        return()
      endif()
    endforeach()
    list(JOIN may_include_${folder} ", " allowed)
    violation("${place}" arrow
      "${folder} includes \"${header}\"; besides itself it may include: ${allowed}")
  endif()
  set(violations ${violations} PARENT_SCOPE)
endfunction()

foreach(file IN LISTS daemon_files)
  string(REGEX REPLACE "^daemon/" "" path "${file}")
  folder_of("${path}" folder)
  string(REGEX REPLACE "\\.cpp$" ".h" own_header "${path}")
  if(NOT folder STREQUAL root AND NOT DEFINED may_include_${folder})
    violation("${file}" arrow "the folder ${folder} has no row in tests/tidy.cmake; add it there")
    continue()
  endif()
  string(REGEX MATCHALL "#include \"[^\"\n]+\"" includes "${code_${file}}")
  set(first TRUE)
  foreach(include IN LISTS includes)
    string(REGEX REPLACE "^#include \"(.*)\"$" "\\1" header "${include}")
    string(FIND "${code_${file}}" "${include}" offset)
    line_at("${code_${file}}" ${offset} line)
    check_include("${file}" ${folder} "${header}" "${file}:${line}")
    if(first AND path MATCHES "\\.cpp$" AND EXISTS "${ROOT}/daemon/${own_header}"
       AND NOT header STREQUAL own_header)
      violation("${file}:${line}" own-header "include \"${own_header}\" first")
    endif()
    set(first FALSE)
    folder_of("${header}" target)
    if(NOT target STREQUAL folder AND NOT header MATCHES "/(options|disk_plan)\\.h$")
      list(APPEND uses_${folder} ${target})
    endif()
  endforeach()
endforeach()

# --- Link lists -----------------------------------------------------------------------------------
# Each library links only along the arrows, and all that its files include (directly or through
# what it links).
file(GLOB folders RELATIVE "${ROOT}/daemon" "${ROOT}/daemon/*/CMakeLists.txt")
foreach(list_file IN LISTS folders)
  string(REGEX REPLACE "/.*" "" folder "${list_file}")
  file(READ "${ROOT}/daemon/${list_file}" text)
  string(REGEX REPLACE "#[^\n]*" "" text "${text}")
  string(REGEX MATCHALL "opsrelay::[a-z_]+" links_${folder} "${text}")
  list(TRANSFORM links_${folder} REPLACE "^opsrelay::" "")
  foreach(target IN LISTS links_${folder})
    if(NOT target IN_LIST may_link_${folder})
      list(JOIN may_link_${folder} ", " allowed)
      violation("daemon/${list_file}" link
        "${folder} links opsrelay::${target}; it may link: ${allowed}")
    endif()
  endforeach()
endforeach()

function(links_closure folder result)
  set(closure ${links_${folder}})
  foreach(next IN LISTS links_${folder})
    links_closure(${next} more)
    list(APPEND closure ${more})
  endforeach()
  set(${result} ${closure} PARENT_SCOPE)
endfunction()

# A forbidden cycle of links would not end here, so this waits until the lists obey the arrows.
if(violations EQUAL 0)
  foreach(list_file IN LISTS folders)
    string(REGEX REPLACE "/.*" "" folder "${list_file}")
    links_closure(${folder} closure)
    list(REMOVE_DUPLICATES uses_${folder})
    foreach(target IN LISTS uses_${folder})
      if(NOT target IN_LIST closure)
        violation("daemon/${list_file}" link
          "${folder} includes headers of ${target} but does not link opsrelay::${target}")
      endif()
    endforeach()
  endforeach()
endif()

# --- Text -----------------------------------------------------------------------------------------
set(lines_max 500)   # of a file in daemon/
set(columns_max 100)
math(EXPR too_long "${columns_max} + 1")
foreach(file IN LISTS cpp_files)
  set(text "${text_${file}}")
  file(STRINGS "${ROOT}/${file}" long_lines LENGTH_MINIMUM ${too_long} ENCODING UTF-8)
  if(long_lines)
    string(REPEAT "[^\n]" ${too_long} long_line)
    report_matches("${file}" "${text}" "${long_line}[^\n]*" columns
      "the line has more than ${columns_max} characters; run clang-format")
  endif()
  if(file MATCHES "\\.h$")
    if(NOT text MATCHES "^//")
      violation("${file}:1" header "open with a comment: what this is, who uses it")
    endif()
    if(NOT text MATCHES "\n#pragma once\n")
      violation("${file}:1" header "there is no #pragma once")
    endif()
  endif()
  if(file MATCHES "^daemon/")
    string(REGEX MATCHALL "\n" newlines "${text}")
    list(LENGTH newlines lines)
    if(lines GREATER lines_max)
      violation("${file}:${lines}" lines "${lines} lines, ${lines_max} are allowed; split the file")
    endif()
  endif()
endforeach()

file(GLOB_RECURSE other_files RELATIVE "${ROOT}"
  "${ROOT}/daemon/*" "${ROOT}/tests/*" "${ROOT}/bench/*"
  "${ROOT}/proto/*" "${ROOT}/systemd/*" "${ROOT}/helm/*" "${ROOT}/.ci/*")
list(APPEND other_files CMakeLists.txt CMakePresets.json README.md CHANGELOG.md dev .clang-format
  .clang-tidy .editorconfig .gitignore)
# Samples may be anything on purpose; Python and Helm leave caches.
list(FILTER other_files EXCLUDE REGEX
  "^proto/.*/|^tests/fuzz/corpus/|__pycache__|node_modules|\\.(tgz|pem|key|crt|bin)$")
string(ASCII 9 tab)
foreach(file IN LISTS other_files)
  if(NOT EXISTS "${ROOT}/${file}")
    continue()
  endif()
  file(READ "${ROOT}/${file}" text)
  if(text STREQUAL "")
    continue()
  endif()
  if(NOT text MATCHES "\n$")
    violation("${file}" newline "the file does not end with a newline")
  endif()
  report_matches("${file}" "${text}" "${tab}" tab "indent with spaces")
  report_matches("${file}" "${text}" "[ \r]+\n" space "white space at the end of the line")
  if(NOT file STREQUAL "tests/tidy.cmake" AND NOT file MATCHES "^tests/deploy/tidy_rules\\.cmake$")
    report_matches("${file}" "${text}" "TODO|FIXME" unfinished "finish it, or file an issue")
  endif()
endforeach()

if(violations GREATER 0)
  message(FATAL_ERROR "tidy: ${violations} violations, listed above")
endif()
list(LENGTH cpp_files count)
message("tidy: ${count} C++ files follow the rules")
