// Every kind of file x every kind of damage: the spool opens, or refuses for the right reason;
// every record that does not lie in the damaged bytes comes back exactly once; loss is reported.
#include <doctest/doctest.h>
#include <rocksdb/sst_file_reader.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "core/random.h"
#include "samples.h"
#include "spool/keys.h"
#include "spool/offline.h"
#include "spool/rocks_open.h"
#include "spool/rocks_setup.h"
#include "spool/rocks_store.h"
#include "spool/rocks_tables.h"
#include "support/fault_matrix.h"
#include "support/log_capture.h"
#include "support/temp_dir.h"

namespace opsrelay::spool {
namespace {

namespace fs = std::filesystem;

constexpr LaneId kOther{1};
constexpr Seq kSettled = 4;  // of the first lane

RocksSetup two_lanes() {
    RocksSetup setup;
    setup.lanes = {{kDefaultLane, "default"}, {kOther, "other"}};
    return setup;
}

std::string read_file(const fs::path& path) {
    std::ifstream stream(path, std::ios::binary);
    return {(std::istreambuf_iterator<char>(stream)), {}};
}

void write_file(const fs::path& path, std::string_view bytes) {
    std::ofstream stream(path, std::ios::binary | std::ios::trunc);
    stream << bytes;
    REQUIRE(stream.good());
}

/// A spool as kill -9 leaves it: two lanes whose records are in tables of several ages and in the
/// log, id runs and logged ids, dead letters of both kinds, deferred records. Made once, copied for
/// each case.
class Image {
public:
    Image();
    static const Image& get() {
        static const Image image;
        return image;
    }
    [[nodiscard]] const std::string& dir() const noexcept { return dir_; }
    /// Records that wait, by lane.
    [[nodiscard]] const std::vector<std::string>& records(LaneId lane) const {
        return records_.at(lane);
    }

    /// Deferred records of the first lane.
    [[nodiscard]] const std::vector<std::string>& deferred() const noexcept { return deferred_; }

    [[nodiscard]] bool is_settled(const std::string& record) const {
        return std::find(settled_.begin(), settled_.end(), record) != settled_.end();
    }

private:
    void commit(Store& store, std::string_view tag, LaneId lane);
    void settle(Store& store);

    test::TempDir temp_;
    std::string dir_;
    std::map<LaneId, std::vector<std::string>> records_;
    std::vector<IdHash> ids_;
    std::vector<std::string> settled_;
    std::vector<std::string> deferred_;
};

void Image::commit(Store& store, std::string_view tag, LaneId lane) {
    const std::vector<Segment> one{test::make_segment(tag, 3, lane, 1500)};
    const std::vector<DeadLetter> rejected{test::make_dead(0, "", DeadKind::admission)};
    REQUIRE(store.commit(one, rejected).has_value());
    std::istringstream lines(one.front().payload);
    for (std::string line; std::getline(lines, line);) records_[lane].push_back(line);
    ids_.insert(ids_.end(), one.front().ids.begin(), one.front().ids.end());
}

void Image::settle(Store& store) {
    auto job = store.seal_job({{1, 1}, 1, 2, store.id_log_end(), 16},
                              std::make_shared<std::vector<IdHash>>(ids_));
    REQUIRE(store.adopt_run(job().value()).has_value());
    const std::vector<DeadLetter> refused{test::make_dead(2, "refused")};
    std::vector<DeferredRecord> later;
    for (const Seq seq : {1U, 3U}) {
        deferred_.push_back(fmt::format("later-{}-{}", seq, std::string(1500, 'y')));
        later.push_back(test::make_deferred(seq, deferred_.back()));
    }
    REQUIRE(store.ack({kDefaultLane, kSettled, refused, {}, later}).has_value());
}

Image::Image() {
    Options options;
    options.dir = temp_ / "running";
    dir_ = temp_ / "image";
    for (int age = 0; age < 4; ++age) {
        const auto store = open_rocks_store(options, two_lanes()).value();
        for (int i = 0; i < 3; ++i) {
            commit(*store, fmt::format("a{}{}", age, i), kDefaultLane);
            commit(*store, fmt::format("b{}{}", age, i), kOther);
        }
        if (age == 1) settle(*store);
        if (age < 3) {
            store->close();
            continue;
        }
        REQUIRE(store->sync().has_value());
        test::copy_as_killed(options.dir, dir_);
    }
    auto& first = records_[kDefaultLane];
    const auto end = first.begin() + static_cast<std::ptrdiff_t>(kSettled - 1);
    settled_.assign(first.begin(), end);
    first.erase(first.begin(), end);
}

/// Which records lie in these bytes.
std::set<std::string> records_in(std::string_view bytes) {
    std::set<std::string> found;
    for (const auto lane : {kDefaultLane, kOther}) {
        for (const auto& record : Image::get().records(lane)) {
            if (bytes.find(record.substr(0, 40)) != std::string_view::npos) found.insert(record);
        }
    }
    for (const auto& record : Image::get().deferred()) {
        if (bytes.find(record.substr(0, 40)) != std::string_view::npos) found.insert(record);
    }
    return found;
}

/// The segment that a record is in is lost with it.
std::set<std::string> with_neighbours(const std::set<std::string>& records) {
    auto all = records;
    for (const auto lane : {kDefaultLane, kOther}) {
        for (const auto& record : Image::get().records(lane)) {
            for (const auto& lost : records) {
                if (record.substr(0, 4) == lost.substr(0, 4)) all.insert(record);
            }
        }
    }
    return all;
}

enum class Damage { flip_begin, flip_middle, flip_end, cut_all, cut_half, cut_one, remove };
constexpr std::array<EnumName<Damage>, 7> kDamages{{
    {Damage::flip_begin, "flip_begin"},
    {Damage::flip_middle, "flip_middle"},
    {Damage::flip_end, "flip_end"},
    {Damage::cut_all, "cut_all"},
    {Damage::cut_half, "cut_half"},
    {Damage::cut_one, "cut_one"},
    {Damage::remove, "remove"},
}};

/// A copy of the image with one file damaged.
struct Case {
    test::TempDir temp;
    Options options;
    fs::path file;
    test::LogCapture logs;
    bool log_was_cut = false;

    explicit Case(const std::string& name) {
        options.dir = temp / "spool";
        fs::copy(Image::get().dir(), options.dir, fs::copy_options::recursive);
        file = fs::path(database_dir(options)) / name;
    }
    /// What may be lost: the records of the segments that are touched.
    std::set<std::string> flip(std::size_t at) const {
        auto bytes = read_file(file);
        bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
        write_file(file, bytes);
        // The name of a record is found only where it is whole; a segment ends within 8 KiB.
        const auto from = at < 8192 ? 0 : at - 8192;
        return with_neighbours(records_in(std::string_view(bytes).substr(from, 16'384)));
    }
    std::set<std::string> cut(std::size_t size) {
        log_was_cut = log_was_cut || file.extension() == ".log";
        const auto bytes = read_file(file);
        write_file(file, std::string_view(bytes).substr(0, size));
        const auto from = size < 8192 ? 0 : size - 8192;
        return with_neighbours(records_in(std::string_view(bytes).substr(from)));
    }
    std::set<std::string> apply(Damage damage) {
        const auto size = fs::file_size(file);
        switch (damage) {
            case Damage::flip_begin: return size == 0 ? std::set<std::string>{} : flip(0);
            case Damage::flip_middle: return size == 0 ? std::set<std::string>{} : flip(size / 2);
            case Damage::flip_end: return size == 0 ? std::set<std::string>{} : flip(size - 1);
            case Damage::cut_all: return cut(0);
            case Damage::cut_half: return cut(size / 2);
            case Damage::cut_one: return cut(size == 0 ? 0 : size - 1);
            case Damage::remove: break;
        }
        auto lost = records_in(read_file(file));
        fs::remove(file);
        return lost;
    }
};

struct Outcome {
    bool moved_aside = false;
    std::size_t lost = 0;
};

/// What was moved aside comes back by a repair, each record once.
void check_repair(const Case& broken, const std::set<std::string>& may_lose) {
    const auto no_id = [](std::uint64_t, LaneId, std::string_view) {
        return std::optional<IdHash>{};
    };
    const auto repaired = repair(broken.options, true, no_id, {});
    if (repaired.has_error()) FAIL(repaired.error().context);
    REQUIRE(repaired->sources.size() == 1);
    CHECK(repaired->sources[0].no_lane == 0);
    const auto store = open_rocks_store(broken.options, two_lanes()).value();
    for (const auto lane : {kDefaultLane, kOther}) {
        const auto found = test::read_all(*store, 1, lane);
        for (const auto& record : Image::get().records(lane)) {
            const auto name = record.substr(0, 6);
            CAPTURE(name);
            const auto times = std::count(found.begin(), found.end(), record);
            CHECK((times == 1 || (times == 0 && may_lose.contains(record))));
        }
        if (lane != kDefaultLane) continue;
        for (const auto& record : Image::get().deferred()) {  // an ordinary one now
            const auto times = std::count(found.begin(), found.end(), record);
            CHECK((times == 1 || (times == 0 && may_lose.contains(record))));
        }
    }
}

/// How many deferred records are missing; of the damaged bytes only.
std::size_t check_deferred(Store& store, const Case& broken,
                           const std::set<std::string>& may_lose) {
    auto found = test::deferred_of(store);
    std::size_t missing = 0;
    for (const auto& record : Image::get().deferred()) {
        const bool there = std::erase_if(found, [&record](const std::string& text) {
                               return text.find(record) != std::string::npos;
                           }) == 1;
        CHECK((there || may_lose.contains(record)));
        if (!there) ++missing;
    }
    CHECK(found.empty());
    if (missing > 0 && !broken.log_was_cut) CHECK(broken.logs.count(log::Level::error) > 0);
    return missing;
}

/// Opens the case and checks every record. `may_lose`: of the damaged bytes.
Outcome check(const Case& broken, const std::set<std::string>& may_lose, bool may_resend) {
    Outcome outcome;
    auto opened = open_rocks_store(broken.options, two_lanes());
    if (opened.has_error()) FAIL(opened.error().context);
    // A log that ends early is what a crash leaves.
    const bool like_a_crash = broken.log_was_cut;
    auto& store = **opened;
    outcome.moved_aside = !find_damage(broken.options).databases.empty();
    if (outcome.moved_aside) {
        CHECK(test::deferred_of(store).empty());
    } else {
        outcome.lost = check_deferred(store, broken, may_lose);
    }
    for (const auto lane : {kDefaultLane, kOther}) {
        auto expected = Image::get().records(lane);
        auto found = test::read_all(store, 1, lane);
        const auto holes = std::erase(found, "?");
        // When the cursor was lost, what has its outcome is sent again.
        const auto settled = std::erase_if(
            found, [](const std::string& record) { return Image::get().is_settled(record); });
        CHECK((settled == 0 || may_resend));
        if (outcome.moved_aside) {
            CHECK(found.empty());
            continue;
        }
        // In order, none twice, none that was not there.
        std::vector<std::string> missing;
        auto next = found.begin();
        for (const auto& record : expected) {
            if (next != found.end() && *next == record) {
                ++next;
            } else {
                missing.push_back(record);
            }
        }
        CHECK(next == found.end());
        for (const auto& record : missing) {
            const auto name = record.substr(0, 6);
            CAPTURE(name);
            CHECK(may_lose.contains(record));
        }
        outcome.lost += missing.size();
        if (!missing.empty() && holes == 0 && !like_a_crash) {
            CHECK(broken.logs.count(log::Level::error) > 0);
        }
        // Numbers go on behind what there was; the spool works.
        const std::vector<Segment> more{test::make_segment("new", 1, lane)};
        CHECK(store.commit(more, {}).has_value());
        const auto all = test::read_all(store, 1, lane);
        CHECK(all.back() == "new.0");
    }
    if (!outcome.moved_aside) return outcome;
    CHECK(broken.logs.count("was moved aside") == 1);
    opened->reset();
    check_repair(broken, may_lose);
    return outcome;
}

std::vector<std::string> files_of_image() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(Image::get().dir() + "/db")) {
        names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

/// What a file is: "seg_0", "ids" and so on for tables, "log", "manifest", else its name.
std::string kind_of(const std::string& name) {
    const auto path = Image::get().dir() + "/db/" + name;
    if (name.ends_with(".sst")) {
        rocksdb::SstFileReader reader{rocksdb::Options()};
        REQUIRE(reader.Open(path).ok());
        const auto family = reader.GetTableProperties()->column_family_name;
        return family.empty() ? "ids" : family;  // made outside of the database
    }
    if (name.ends_with(".log")) return fs::file_size(path) > 0 ? "log" : "empty log";
    return name.substr(0, name.find('-'));
}

constexpr const char* kNothingLost = "used, no record lost";
constexpr const char* kSomeLost = "used, records in the damaged bytes lost and reported";
constexpr const char* kMovedAside = "moved aside, a repair takes everything back";

/// A row for each kind of file and outcome; of several files of a kind the outcomes may differ.
std::vector<test::FaultRow> rows_of(
    const std::map<std::string, std::map<std::string, std::set<std::string>>>& matrix) {
    std::vector<test::FaultRow> rows;
    for (const auto& [kind, damages] : matrix) {
        std::map<std::string, std::string> by_outcome;
        for (const auto& damage : kDamages) {
            std::string outcome;
            for (const auto& one : damages.at(std::string(damage.name))) {
                outcome += (outcome.empty() ? "" : "; or ") + one;
            }
            auto& list = by_outcome[outcome];
            list += (list.empty() ? "" : ", ") + std::string(damage.name);
        }
        for (const auto& [outcome, list] : by_outcome) rows.push_back({kind, list, outcome});
    }
    return rows;
}

TEST_CASE("spool/rocks_store: any file damaged in any way costs what it held and no more") {
    std::map<std::string, int> seen;
    std::map<std::string, std::map<std::string, std::set<std::string>>> matrix;
    for (const auto& name : files_of_image()) {
        const auto kind = kind_of(name);
        ++seen[kind];
        for (const auto& damage : kDamages) {
            CAPTURE(name);
            CAPTURE(kind);
            CAPTURE(damage.name);
            Case broken(name);
            const auto may_lose = broken.apply(damage.value);
            const bool has_no_double = kind == "MANIFEST" || kind == "default";
            const auto outcome = check(broken, may_lose, has_no_double);
            CHECK((has_no_double || !outcome.moved_aside));
            const auto* const came = outcome.moved_aside ? kMovedAside
                                     : outcome.lost > 0  ? kSomeLost
                                                         : kNothingLost;
            matrix[kind][std::string(damage.name)].insert(came);
        }
    }
    for (const auto* const kind :
         {"seg_0", "seg_1", "idlog", "ids", "dead", "deferred", "default", "log", "empty log",
          "MANIFEST", "CURRENT", "OPTIONS", "IDENTITY", "LOCK"}) {
        CAPTURE(kind);
        CHECK(seen[kind] > 0);
    }
    const auto complaint = test::check_matrix("spool/rocks_damage_matrix", rows_of(matrix));
    CHECK_MESSAGE(complaint.empty(), complaint);
}

TEST_CASE("spool/rocks_store: seeded damage in several files at once is survived") {
    const auto names = files_of_image();
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        Xoshiro rng{seed};
        Case broken("CURRENT");
        std::set<std::string> may_lose;
        for (auto left = 1 + rng.next() % 3; left > 0; --left) {
            broken.file = fs::path(database_dir(broken.options)) / names[rng.next() % names.size()];
            if (!fs::exists(broken.file)) continue;
            const auto size = fs::file_size(broken.file);
            auto lost = rng.next() % 8 == 0 || size == 0 ? broken.apply(Damage::remove)
                        : rng.next() % 4 == 0            ? broken.cut(rng.next() % size)
                                                         : broken.flip(rng.next() % size);
            may_lose.merge(lost);
        }
        check(broken, may_lose, true);
    }
}

}  // namespace
}  // namespace opsrelay::spool
