// JSON to RapidJSON's tree, for what is written out again.
#pragma once

#include <rapidjson/fwd.h>

#include <string_view>

namespace opsrelay {

/// Parses `json`, without recursion. Numbers become the nearest double; RapidJSON's own way to that
/// (kParseFullPrecisionFlag) makes any number of a zero such as 0e66. False: no JSON, or a number
/// that no double holds; `into` is of no use then.
[[nodiscard]] bool read_json_document(std::string_view json, rapidjson::Document& into);

}  // namespace opsrelay
