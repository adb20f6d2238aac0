// Text that must not stay behind in memory: API keys and passwords.
#pragma once

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

namespace opsrelay {

/// Overwrites its text before the memory is given back or used anew. Never logged, never shown.
/// Thread: as a std::string.
class Secret {
public:
    Secret() = default;
    Secret(std::string_view text) : text_(text) {}  // NOLINT(google-explicit-constructor)
    Secret(const char* text) : text_(text) {}       // NOLINT(google-explicit-constructor)
    /// One secret of several texts, without copies of a part on the way.
    explicit Secret(std::initializer_list<std::string_view> parts) {
        std::size_t size = 0;
        for (const auto part : parts) size += part.size();
        text_.reserve(size);
        for (const auto part : parts) text_ += part;
    }
    Secret(const Secret&) = default;
    Secret(Secret&& other) noexcept : text_(std::move(other.text_)) { other.wipe(); }
    Secret& operator=(const Secret& other) {
        if (this != &other) {
            wipe();
            text_ = other.text_;
        }
        return *this;
    }
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            wipe();
            text_ = std::move(other.text_);
            other.wipe();  // a short text was copied
        }
        return *this;
    }
    ~Secret() { wipe(); }

    [[nodiscard]] std::string_view view() const noexcept { return text_; }
    [[nodiscard]] bool empty() const noexcept { return text_.empty(); }
    [[nodiscard]] std::size_t size() const noexcept { return text_.size(); }
    bool operator==(const Secret&) const = default;

    void append(std::string_view more) {
        const auto size = text_.size() + more.size();
        if (size > text_.capacity()) {
            std::string longer;
            longer.reserve(std::max(size, 2 * text_.capacity()));
            longer = text_;
            wipe();
            text_.swap(longer);  // of a short text the bytes, which are wiped
        }
        text_ += more;
    }
    /// Forgets the text.
    void wipe() noexcept {
        // To the capacity: an earlier, longer text may have been there, and a moved-from string
        // still has its short bytes.
        text_.resize(text_.capacity());
        ::explicit_bzero(text_.data(), text_.size());
        text_.clear();
    }

private:
    std::string text_;
};

}  // namespace opsrelay
