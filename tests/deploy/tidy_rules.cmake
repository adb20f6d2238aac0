# Shows that tests/tidy.cmake finds what it is there to find: a small tree that follows every rule
# passes, and each case below, added to that tree, fails with its message. Run by ctest:
#   cmake -D TIDY=<tests/tidy.cmake> -D WORK=<scratch directory> -P tidy_rules.cmake
cmake_minimum_required(VERSION 3.25)

set(failures 0)

function(write path content)
  file(WRITE "${WORK}/${path}" "${content}")
endfunction()

# A tree that follows the rules, with one library per kind of arrow.
function(fresh_tree)
  file(REMOVE_RECURSE "${WORK}")
  foreach(folder core observe spool forward)
    write("daemon/${folder}/thing.h" "// A thing.\n#pragma once\nint ${folder}_thing();\n")
  endforeach()
  write("daemon/core/thing.cpp" "#include \"core/thing.h\"\n")
  write("daemon/core/CMakeLists.txt" "opsrelay_library(core SOURCES thing.cpp)\n")
  write("daemon/observe/CMakeLists.txt" "opsrelay_library(observe LINK opsrelay::core)\n")
  write("daemon/spool/store.h"
    "// A seam.\n#pragma once\n#include \"core/thing.h\"\n#include \"observe/thing.h\"\n")
  write("daemon/spool/rocks_store.cpp" "#include <rocksdb/db.h>\n")
  write("daemon/spool/CMakeLists.txt" "opsrelay_library(spool LINK opsrelay::observe)\n")
  write("daemon/forward/pump.cpp" "#include \"spool/store.h\"\n// getenv() in a comment is words\n")
  write("daemon/forward/CMakeLists.txt"
    "opsrelay_library(forward LINK opsrelay::spool opsrelay::core)\n")
  write("daemon/relay.h" "// The root.\n#pragma once\n#include \"forward/thing.h\"\n")
  write("daemon/intake.cpp" "#include \"spool/store.h\"\n")
endfunction()

function(run_tidy status_result output_result)
  execute_process(COMMAND ${CMAKE_COMMAND} -D "ROOT=${WORK}" -P "${TIDY}"
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(${status_result} ${status} PARENT_SCOPE)
  set(${output_result} "${output}" PARENT_SCOPE)
endfunction()

# refused(NAME PATH CONTENT MESSAGE): with PATH holding CONTENT, tidy fails and says MESSAGE.
function(refused name path content message)
  fresh_tree()
  write("${path}" "${content}")
  run_tidy(status output)
  string(FIND "${output}" "${message}" position)
  if(status EQUAL 0 OR position EQUAL -1)
    message("${name}: status ${status}, expected a failure that says\n  ${message}\nbut got\n${output}")
    math(EXPR failures "${failures} + 1")
    set(failures ${failures} PARENT_SCOPE)
  endif()
endfunction()

fresh_tree()
run_tidy(status output)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "a tree that follows the rules was refused:\n${output}")
endif()

refused("arrow upwards" "daemon/core/bad.cpp" "#include \"observe/thing.h\"\n"
  "daemon/core/bad.cpp:1: arrow: core includes \"observe/thing.h\"")
refused("arrow past a seam" "daemon/forward/bad.cpp" "\n#include \"spool/thing.h\"\n"
  "daemon/forward/bad.cpp:2: arrow: forward includes \"spool/thing.h\"; besides itself it may include: spool/store.h")
refused("a stage and the root" "daemon/spool/bad.cpp" "#include \"relay.h\"\n"
  "daemon/spool/bad.cpp:1: arrow: spool includes \"relay.h\"")
refused("intake and forward" "daemon/intake.cpp" "#include \"forward/thing.h\"\n"
  "daemon/intake.cpp:1: arrow: intake includes \"forward/thing.h\"")
refused("no such header" "daemon/core/bad.cpp" "#include \"thing.h\"\n"
  "daemon/core/bad.cpp:1: include: \"thing.h\" is no file below daemon/")
refused("a folder without a row" "daemon/extra/bad.cpp" "int extra;\n"
  "daemon/extra/bad.cpp: arrow: the folder extra has no row")
refused("own header second" "daemon/core/thing.cpp"
  "#include \"core/other.h\"\n#include \"core/thing.h\"\n"
  "daemon/core/thing.cpp:1: own-header: include \"core/thing.h\" first")
refused("link upwards" "daemon/core/CMakeLists.txt" "opsrelay_library(core LINK opsrelay::spool)\n"
  "daemon/core/CMakeLists.txt: link: core links opsrelay::spool")
refused("link forgotten" "daemon/forward/CMakeLists.txt"
  "opsrelay_library(forward LINK opsrelay::core)\n"
  "forward includes headers of spool but does not link opsrelay::spool")

refused("rocksdb" "daemon/spool/bad.cpp" "#include <rocksdb/db.h>\n" "daemon/spool/bad.cpp:1: rocksdb:")
refused("beast in a header" "daemon/relay.h" "#include <boost/beast/http.hpp>\n"
  "daemon/relay.h:1: beast:")
refused("umbrella" "daemon/core/bad.cpp" "#include <boost/asio.hpp>\n"
  "daemon/core/bad.cpp:1: umbrella:")
refused("iostream" "daemon/core/bad.cpp" "#include <iostream>\n" "daemon/core/bad.cpp:1: iostream:")
refused("getenv" "daemon/core/bad.cpp" "int a;\nauto b = std::getenv(\"HOME\");\n"
  "daemon/core/bad.cpp:2: environment:")
refused("wall clock" "daemon/core/bad.cpp" "\n\nauto t = std::chrono::system_clock::now();\n"
  "daemon/core/bad.cpp:3: clock:")
refused("both clocks" "daemon/core/bad.cpp" "auto a = steady_clock::now();\nauto b = steady_clock::now();\n"
  "daemon/core/bad.cpp:2: clock:")
refused("random device" "daemon/core/bad.cpp" "std::random_device r;\n" "daemon/core/bad.cpp:1: random:")
refused("sleep" "daemon/core/bad.cpp" "std::this_thread::sleep_for(x);\n"
  "daemon/core/bad.cpp:1: sleep:")
refused("detached" "daemon/core/bad.cpp" "co_spawn(a, b, asio::detached);\n"
  "daemon/core/bad.cpp:1: detached:")
refused("test code" "daemon/core/bad.cpp" "#include <doctest/doctest.h>\n"
  "daemon/core/bad.cpp:1: test-code:")

string(REPEAT "x" 101 long)
refused("a long line" "daemon/core/bad.cpp" "int a;\n// ${long}\n" "daemon/core/bad.cpp:2: columns:")
string(REPEAT "int a;\n" 501 many)
refused("a long file" "daemon/core/bad.cpp" "${many}" "daemon/core/bad.cpp:501: lines: 501 lines")
refused("no opening comment" "daemon/core/bad.h" "#pragma once\n" "daemon/core/bad.h:1: header: open with")
refused("no pragma" "daemon/core/bad.h" "// A thing.\n" "daemon/core/bad.h:1: header: there is no")
refused("no newline" "daemon/core/bad.cpp" "int a;" "daemon/core/bad.cpp: newline:")
string(ASCII 9 tab)
refused("a tab" "proto/bad.md" "a\n${tab}b\n" "proto/bad.md:2: tab:")
refused("space at the end" "tests/bad.cpp" "int a; \n" "tests/bad.cpp:1: space:")
refused("unfinished" "tests/bad.cpp" "int a;  // TODO\n" "tests/bad.cpp:1: unfinished:")

file(REMOVE_RECURSE "${WORK}")
if(failures GREATER 0)
  message(FATAL_ERROR "${failures} rules do not hold")
endif()
