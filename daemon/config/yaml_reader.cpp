#include "config/yaml_reader.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>

namespace opsrelay::config {

namespace {

constexpr int kDepthMax = 8;
constexpr std::size_t kNodesMax = 4096;  // aliases count each time: no billion laughs

Place place_of(const YAML::Mark& mark) {
    if (mark.is_null()) return {};
    return {mark.line + 1, mark.column + 1};
}

Error fault(std::string_view name, Place place, std::string_view complaint) {
    return {Errc::config_invalid, fmt::format("{}: {}", place_text(name, place), complaint)};
}

class Converter {
public:
    explicit Converter(std::string_view name) : name_(name) {}

    Result<YamlNode> convert(const YAML::Node& from, int depth) {
        YamlNode node;
        node.place = place_of(from.Mark());
        if (depth > kDepthMax) {
            return fault(name_, node.place, fmt::format("nested deeper than {}", kDepthMax));
        }
        if (++nodes_ > kNodesMax) {
            return fault(name_, node.place, fmt::format("more than {} values", kNodesMax));
        }
        switch (from.Type()) {
            case YAML::NodeType::Undefined:
            case YAML::NodeType::Null: return node;
            case YAML::NodeType::Scalar:
                node.kind = YamlNode::Kind::scalar;
                node.text = from.Scalar();
                return node;
            case YAML::NodeType::Sequence: return convert_list(from, std::move(node), depth);
            case YAML::NodeType::Map: return convert_map(from, std::move(node), depth);
        }
        return node;
    }

private:
    Result<YamlNode> convert_list(const YAML::Node& from, YamlNode node, int depth) {
        node.kind = YamlNode::Kind::list;
        for (const auto& item : from) {
            auto converted = convert(item, depth + 1);
            if (!converted) return converted;
            node.items.push_back(*std::move(converted));
        }
        return node;
    }

    Result<YamlNode> convert_map(const YAML::Node& from, YamlNode node, int depth) {
        node.kind = YamlNode::Kind::map;
        for (const auto& pair : from) {
            const auto place = place_of(pair.first.Mark());
            if (!pair.first.IsScalar()) return fault(name_, place, "a key must be a plain word");
            const auto& key = pair.first.Scalar();
            const auto known =
                std::find_if(node.members.begin(), node.members.end(),
                             [&](const YamlNode::Member& member) { return member.key == key; });
            if (known != node.members.end()) {
                return fault(
                    name_, place,
                    fmt::format("{}: the key is already set in line {}", key, known->place.line));
            }
            auto converted = convert(pair.second, depth + 1);
            if (!converted) return converted;
            node.members.push_back({key, place, *std::move(converted)});
        }
        return node;
    }

    std::string_view name_;
    std::size_t nodes_ = 0;
};

}  // namespace

std::string place_text(std::string_view name, Place place) {
    return fmt::format("{}:{}:{}", name, place.line, place.column);
}

Result<YamlNode> read_yaml(const std::string& text, std::string_view name) {
    if (text.size() > kFileBytesMax) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: {} bytes, more than {}", name, text.size(), kFileBytesMax)};
    }
    try {
        const auto documents = YAML::LoadAll(text);
        if (documents.empty()) return YamlNode{};
        if (documents.size() > 1) {
            return fault(name, place_of(documents[1].Mark()),
                         "a second document; the file must have one");
        }
        return Converter(name).convert(documents.front(), 1);
    } catch (const YAML::Exception& e) {
        return fault(name, place_of(e.mark), e.msg);
    }
}

}  // namespace opsrelay::config
