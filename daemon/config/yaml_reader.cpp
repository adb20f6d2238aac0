#include "config/yaml_reader.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <utility>

namespace opsrelay::config {

namespace {

constexpr std::size_t kDepthMax = 8;
constexpr std::size_t kNodesMax = 4096;  // aliases count each time: no billion laughs

Place place_of(const YAML::Mark& mark) {
    if (mark.is_null()) return {};
    return {mark.line + 1, mark.column + 1};
}

// yaml-cpp's own way to end a parse from within a handler.
[[noreturn]] void refuse(const YAML::Mark& mark, const std::string& complaint) {
    throw YAML::ParserException(mark, complaint);
}

// Makes the tree while yaml-cpp parses, so that each limit ends the parse at once: its own tree has
// none, and of some input that is no YAML, such as ",", it makes documents without end.
class TreeBuilder final : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark& mark) override {
        if (start_ && start_->pos == mark.pos) refuse(mark, "this is no YAML");
        if (start_) refuse(mark, "a second document; the file must have one");
        start_ = mark;
    }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        add(mark, anchor, {YamlNode::Kind::null, place_of(mark), {}, {}, {}});
    }
    void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                  const std::string& value) override {
        if (awaits_key()) return take_key(mark, value);
        add(mark, anchor, {YamlNode::Kind::scalar, place_of(mark), value, {}, {}});
    }
    void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
        const auto known = anchored_.find(anchor);
        if (known == anchored_.end()) refuse(mark, "an alias of what it is a part of");
        add(mark, YAML::NullAnchor, known->second);
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                         YAML::EmitterStyle::value /*style*/) override {
        open(mark, anchor, YamlNode::Kind::list);
    }
    void OnSequenceEnd() override { close(); }
    void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t anchor,
                    YAML::EmitterStyle::value /*style*/) override {
        open(mark, anchor, YamlNode::Kind::map);
    }
    void OnMapEnd() override { close(); }

    YamlNode take() { return std::move(root_); }

private:
    struct Open {
        YamlNode node;
        YAML::anchor_t anchor = YAML::NullAnchor;
        bool has_key = false;  // of a map: its last member waits for its value
    };

    bool awaits_key() const {
        return !open_.empty() && open_.back().node.kind == YamlNode::Kind::map &&
               !open_.back().has_key;
    }

    void take_key(const YAML::Mark& mark, const std::string& key) {
        auto& members = open_.back().node.members;
        const auto known =
            std::find_if(members.begin(), members.end(),
                         [&](const YamlNode::Member& member) { return member.key == key; });
        if (known != members.end()) {
            refuse(mark,
                   fmt::format("{}: the key is already set in line {}", key, known->place.line));
        }
        count_text(mark, key);
        members.push_back({key, place_of(mark), {}});
        open_.back().has_key = true;
    }

    void open(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
        if (awaits_key()) refuse(mark, "a key must be a plain word");
        YamlNode node{kind, place_of(mark), {}, {}, {}};
        count(mark, node, open_.size() + 1);
        open_.push_back({std::move(node), anchor});
    }

    void close() {
        auto done = std::move(open_.back());
        open_.pop_back();
        place(done.anchor, std::move(done.node));
    }

    void add(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode node) {
        if (awaits_key()) refuse(mark, "a key must be a plain word");
        count(mark, node, open_.size() + 1);
        place(anchor, std::move(node));
    }

    void place(YAML::anchor_t anchor, YamlNode node) {
        if (anchor != YAML::NullAnchor) anchored_.emplace(anchor, node);
        if (open_.empty()) {
            root_ = std::move(node);
        } else if (auto& parent = open_.back(); parent.node.kind == YamlNode::Kind::list) {
            parent.node.items.push_back(std::move(node));
        } else {
            parent.node.members.back().value = std::move(node);
            parent.has_key = false;
        }
    }

    // What comes into the tree at `depth`; of an alias all that is in it.
    void count(const YAML::Mark& mark, const YamlNode& node, std::size_t depth) {
        if (depth > kDepthMax) refuse(mark, fmt::format("nested deeper than {}", kDepthMax));
        if (++nodes_ > kNodesMax) refuse(mark, fmt::format("more than {} values", kNodesMax));
        count_text(mark, node.text);
        for (const auto& item : node.items) count(mark, item, depth + 1);
        for (const auto& member : node.members) {
            count_text(mark, member.key);
            count(mark, member.value, depth + 1);
        }
    }

    void count_text(const YAML::Mark& mark, const std::string& text) {
        text_bytes_ += text.size();
        if (text_bytes_ > kFileBytesMax) {
            refuse(mark, fmt::format("values of more than {} bytes, aliases counted each time",
                                     kFileBytesMax));
        }
    }

    YamlNode root_;
    std::vector<Open> open_;
    std::unordered_map<YAML::anchor_t, YamlNode> anchored_;
    std::optional<YAML::Mark> start_;  // of the document
    std::size_t nodes_ = 0;
    std::size_t text_bytes_ = 0;
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
        std::istringstream stream(text);
        YAML::Parser parser(stream);
        TreeBuilder builder;
        while (parser.HandleNextDocument(builder)) {
        }
        return builder.take();
    } catch (const YAML::Exception& e) {
        return Error{Errc::config_invalid,
                     fmt::format("{}: {}", place_text(name, place_of(e.mark)), e.msg)};
    }
}

}  // namespace opsrelay::config
