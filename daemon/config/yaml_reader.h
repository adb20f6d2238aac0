// YAML text to a small tree with places. The only includer of yaml-cpp is its .cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace opsrelay::config {

/// A file larger than this is refused.
inline constexpr std::size_t kFileBytesMax = 1U << 20U;

/// Line and column, from 1.
struct Place {
    int line = 0;
    int column = 0;
};

/// A value of the file. Scalars are kept as written: what "off" or "0660" means is the field's
/// affair.
struct YamlNode {
    enum class Kind : std::uint8_t { null, scalar, list, map };
    struct Member;

    Kind kind = Kind::null;
    Place place;
    std::string text;             // scalar
    std::vector<YamlNode> items;  // list
    std::vector<Member> members;  // map, in the order of the file, no key twice
};

/// One `key: value` of a map.
struct YamlNode::Member {
    std::string key;
    Place place;
    YamlNode value;
};

/// Parses one document of at most kFileBytesMax bytes, 8 levels, 4,096 nodes and kFileBytesMax
/// bytes of text, with what aliases repeat; an empty one is null. Error: config_invalid with
/// `name`:line:column for bad syntax, a second document, a key that is there twice or is not a
/// plain word, and what is beyond the limits, which ends the parse at once.
[[nodiscard]] Result<YamlNode> read_yaml(const std::string& text, std::string_view name);

/// "name:line:column".
[[nodiscard]] std::string place_text(std::string_view name, Place place);

}  // namespace opsrelay::config
