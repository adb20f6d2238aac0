// A spool for the tests of what is done without a daemon.
#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "samples.h"
#include "spool/offline.h"
#include "spool/quarantine.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::test {

inline constexpr LaneId kOther{1};

/// Two lanes, "default" and "other": records in tables and in the log, some with their outcome; as
/// kill -9 leaves it.
struct OfflineSpool {
    TempDir dir;
    spool::Options options;
    LogCapture logs;

    OfflineSpool() {
        options.dir = dir / "running";
        open()->close();
        {
            const auto store = open();
            commit(*store, {"a0", "b0"}, {make_dead(0, "", spool::DeadKind::admission)});
            commit(*store, {"a1", "b1"});
            const std::vector<spool::DeadLetter> refused{make_dead(2, "refused")};
            const std::vector<Seq> ahead{5};
            REQUIRE(store->ack({kDefaultLane, 4, refused, ahead}).has_value());
            store->close();
        }
        const auto store = open();
        commit(*store, {"a2", "b2"});
        REQUIRE(store->sync().has_value());
        copy_as_killed(options.dir, dir / "spool");
        options.dir = dir / "spool";
    }
    [[nodiscard]] std::unique_ptr<spool::Store> open() const {
        spool::RocksSetup setup;
        setup.lanes = {{kDefaultLane, "default"}, {kOther, "other"}};
        return spool::open_rocks_store(options, setup).value();
    }
    static void commit(spool::Store& store, const std::vector<std::string>& tags,
                       const std::vector<spool::DeadLetter>& rejected = {}) {
        std::vector<spool::Segment> segments;
        for (const auto& tag : tags) {
            segments.push_back(make_segment(tag, 3, tag[0] == 'a' ? kDefaultLane : kOther));
            for (std::size_t i = 0; i < 3; ++i) {
                segments.back().ids[i] =
                    id_of(0, segments.back().lane, fmt::format("{}.{}", tag, i)).value();
            }
        }
        REQUIRE(store.commit(segments, rejected).has_value());
    }
    static std::optional<IdHash> id_of(std::uint64_t, LaneId lane, std::string_view event) {
        return IdHash{std::hash<std::string_view>{}(event) | 1U, static_cast<std::uint64_t>(lane)};
    }
    [[nodiscard]] std::string db() const { return spool::database_dir(options); }
    void remove_manifest() const {
        for (const auto& entry : std::filesystem::directory_iterator(db())) {
            if (entry.path().filename().string().starts_with("MANIFEST"))
                std::filesystem::remove(entry.path());
        }
    }
    /// Every file with its bytes.
    [[nodiscard]] std::map<std::string, std::string> contents() const {
        std::map<std::string, std::string> files;
        for (const auto& entry : std::filesystem::recursive_directory_iterator(options.dir)) {
            if (!entry.is_regular_file()) continue;
            std::ifstream stream(entry.path(), std::ios::binary);
            files[entry.path()] = {(std::istreambuf_iterator<char>(stream)), {}};
        }
        return files;
    }
};

}  // namespace opsrelay::test
