// What the world does to the relay: events, trouble, the end of processes.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>

#include "sim/sim_world.h"

namespace opsrelay::sim {

namespace {

constexpr std::size_t kKnownMax = 3000;
constexpr milliseconds kAckTimeout{400};
constexpr milliseconds kPodDeadline = seconds{20};

// Bits of hazards_.
enum Hazard : std::uint32_t {
    power = 1,
    kills = 2,
    disk = 4,
    damaged = 8,
    wall = 16,
    keys = 32,
    stall = 64,
    full = 128,
    pods = 256,
};

// `dead`: what is a dead letter at that moment. What comes in later may be refused, ten in a row,
// and bring it back to the spool.
asio::awaitable<void> drain_and_tell(Pipeline& pipeline, TimePoint deadline,
                                     const test::MemStore& store, std::optional<bool>& drained,
                                     std::set<std::string>& dead) {
    drained = co_await pipeline.drain_until(deadline);
    for (const auto& letter : store.dead_letters()) dead.insert(letter.id);
}

}  // namespace

std::string SimWorld::make_id(std::size_t side) {
    if (!known_.empty() && rng_.chance(100)) {
        const auto& known = known_[rng_.between(0, known_.size() - 1)];
        if (known.process != process_) mark(Mark::duplicate_after_restart);
        return known.id;
    }
    const auto dice = rng_.between(0, 999);
    const auto* const kind = dice < 10 ? "poison" : dice < 14 ? "large" : dice < 17 ? "stuck" : "e";
    auto id = fmt::format("{}-{}-{}-{}", kind, seed_, side, next_id_++);
    known_.push_back({id, process_});
    if (known_.size() > kKnownMax) known_.pop_front();
    return id;
}

// What is offered again after the limits are reached may be accepted, and is then sent, again.
void SimWorld::note_accepted(Side& side, const std::string& id) {
    const auto before = accepts_++;
    const auto known = side.accepted.find(id);
    if (known != side.accepted.end()) {
        const auto& first = known->second;
        const bool must_be_known = clock_.now() - first.at < spool_options_.ids.window &&
                                   before - first.before < spool_options_.ids.ids_max;
        if (must_be_known) return;
        side.upstream.excuse(id);
    }
    side.accepted[id] = {clock_.now(), before};
}

std::string SimWorld::make_event(const std::string& id, ListenerKind kind) {
    if (rng_.chance(20)) {
        return fmt::format(R"({{"externalRequestId":"{}","provider":"openai","inputTokens":-1}})",
                           id);
    }
    // Only an HTTP client learns which id was made for its event.
    if (kind == ListenerKind::http && rng_.chance(20)) {
        return R"({"provider":"openai","model":"m","inputTokens":1,"outputTokens":1})";
    }
    const auto padding = rng_.chance(5) ? rng_.between(0, 4000) : 0;
    return fmt::format(
        R"({{"externalRequestId":"{}","provider":"openai","model":"m{}","inputTokens":{},)"
        R"("outputTokens":1,"status":"success"}})",
        id, std::string(padding, 'x'), id.size());
}

void SimWorld::offer() {
    const auto side = some_side();
    const auto kind = kListenerKinds.at(rng_.between(0, kListenerKinds.size() - 1)).value;
    if (kind == ListenerKind::unix_stream && !pipeline_->intake().has_room()) return;
    std::vector<std::string> ids;
    const auto count = rng_.between(1, rng_.chance(100) ? 400 : 40);
    for (std::uint64_t i = 0; i < count; ++i) ids.push_back(make_id(side));
    offer_to(side, kind, ids);
    if (sides_.size() > 1 && rng_.chance(100)) {  // other lanes know nothing of these ids
        const auto other = (side + 1) % sides_.size();
        if (!sides_[other].configured) return;
        mark(Mark::same_id_in_two_lanes);
        offer_to(other, kind, ids);
    }
}

void SimWorld::offer_to(std::size_t side, ListenerKind kind, const std::vector<std::string>& ids) {
    std::vector<std::string> bytes;
    for (const auto& id : ids) bytes.push_back(make_event(id, kind));
    std::vector<listen::Message> burst;
    for (const auto& text : bytes) burst.push_back({.bytes = text});
    auto& intake = pipeline_->intake();
    const auto offered = intake.offer(burst, {.kind = kind, .lane = sides_[side].name.lane});
    std::vector<Told> told;
    for (std::size_t i = 0; i < offered.size(); ++i) {
        const auto& one = offered[i];
        if (one.admission == listen::Admission::rejected) mark(Mark::rejected);
        if (one.admission == listen::Admission::shed) mark(Mark::shed);
        if (one.admission == listen::Admission::rejected ||
            one.admission == listen::Admission::shed) {
            continue;
        }
        const bool minted = id_of(bytes[i]).empty();
        if (minted) mark(Mark::minted_id);
        told.push_back({side, minted ? one.id : ids[i], one.position});
        if (one.admission == listen::Admission::accepted) {
            note_accepted(sides_[side], told.back().id);
        } else {
            mark(Mark::duplicate);
            if (one.position > intake.durable_position()) mark(Mark::duplicate_before_durable);
        }
    }
    if (told.empty()) return;
    if (kind == ListenerKind::http && rng_.chance(500)) return await_confirmation(std::move(told));
    waiting_.insert(waiting_.end(), told.begin(), told.end());
}

void SimWorld::await_confirmation(std::vector<Told> told) {
    clients_->spawn("client", client(std::move(told), clock_.now() + kAckTimeout));
}

// An HTTP client: a reply that is not 200 makes it send the same ids again later.
asio::awaitable<void> SimWorld::client(std::vector<Told> told, TimePoint due) {
    Position last = 0;
    for (const auto& one : told) last = std::max(last, one.position);
    const auto settled = co_await pipeline_->intake().settled(last, due);
    for (const auto& one : told) {
        if (settled == listen::Settled::durable && !killed_) {
            acknowledge(one);
        } else {
            mark(Mark::not_confirmed_in_time);
            sides_[one.side].resend.push_back(one.id);
        }
    }
}

void SimWorld::resend() {
    for (std::size_t side = 0; side < sides_.size(); ++side) {
        if (!sides_[side].configured) continue;
        // A minted id is the relay's own: that client cannot send it.
        auto ids = std::exchange(sides_[side].resend, {});
        std::erase_if(ids, [](const std::string& id) { return id.find('-') == 8; });
        std::vector<std::string> bytes;
        for (const auto& id : ids) {
            bytes.push_back(
                fmt::format(R"({{"externalRequestId":"{}","provider":"openai","model":"m"}})", id));
        }
        std::vector<listen::Message> burst;
        for (const auto& text : bytes) burst.push_back({.bytes = text});
        const auto offered = pipeline_->intake().offer(
            burst, {.kind = ListenerKind::http, .lane = sides_[side].name.lane});
        for (std::size_t i = 0; i < offered.size(); ++i) {
            if (offered[i].admission == listen::Admission::shed) {
                sides_[side].resend.push_back(ids[i]);
            } else {
                if (offered[i].admission == listen::Admission::accepted) {
                    note_accepted(sides_[side], ids[i]);
                }
                waiting_.push_back({side, ids[i], offered[i].position});
            }
        }
    }
}

void SimWorld::harm_store() {
    const auto times = static_cast<std::uint32_t>(rng_.between(1, 20));
    const auto landed = rng_.chance(500) ? test::Landed::yes : test::Landed::no;
    switch (rng_.between(0, 15)) {
        case 0:
            store_->fail_next(test::StoreCall::commit, Errc::spool_full, times);
            mark(Mark::commit_refused);
            break;
        case 1: store_->fail_next(test::StoreCall::commit, Errc::spool_busy, times); break;
        case 2: store_->fail_next(test::StoreCall::ack, Errc::spool_full, times); break;
        case 3: store_->fail_next(test::StoreCall::sync, Errc::spool_io, times); break;
        case 4: store_->fail_next(test::StoreCall::read, Errc::spool_io, times); break;
        case 5:
            store_->fail_next(test::StoreCall::commit,
                              rng_.chance(500) ? Errc::spool_reopen : Errc::spool_io, 1, landed);
            mark(Mark::store_reopened);
            if (landed == test::Landed::yes) mark(Mark::failed_commit_landed);
            break;
        case 6:
            store_->fail_next(test::StoreCall::replay, Errc::spool_full, times, landed);
            mark(Mark::replay_refused);
            break;
        case 7: store_->fail_next(test::StoreCall::replay, Errc::spool_reopen, 1, landed); break;
        case 8: store_->fail_next(test::StoreCall::ack, Errc::spool_reopen, 1); break;
        case 9: store_->fail_next(test::StoreCall::sync, Errc::spool_reopen, 1); break;
        case 10: store_->fail_next(test::StoreCall::ack, Errc::spool_corrupt, times); break;
        case 11:
            store_->fail_next(test::StoreCall::make_run, Errc::spool_full, times);
            mark(Mark::run_refused);
            break;
        case 12:
            store_->fail_next(test::StoreCall::adopt_run, Errc::spool_reopen, 1, landed);
            break;
        case 13: store_->fail_next(test::StoreCall::drop_runs, Errc::spool_io, times); break;
        case 14:
            store_->fail_next(test::StoreCall::purge_dead,
                              rng_.chance(500) ? Errc::spool_io : Errc::spool_reopen, 1, landed);
            break;
        default:  // the disk is gone: reopening fails too
            store_->fail_next(test::StoreCall::commit, Errc::spool_reopen, 1, landed);
            store_->fail_next(test::StoreCall::reopen, Errc::spool_io, 1);
            break;
    }
}

// Somebody else fills the volume, and makes room again minutes later.
void SimWorld::fill_disk() {
    mark(Mark::disk_full_for_minutes);
    store_->refuse_writes(Errc::spool_full);
    if (rng_.chance(700)) store_->set_volume(1_MiB, 200_GiB);
    const auto until = clock_.now() + rng_.between(seconds{1}, milliseconds{minutes{5}});
    while (clock_.now() < until && !store_failed_ && outcome_.violation.empty()) {
        offer();
        advance(rng_.between(milliseconds{1}, milliseconds{20'000}));
        check();
    }
    store_->refuse_writes(std::nullopt);
    store_->set_volume(100_GiB, 200_GiB);
}

void SimWorld::damage() {
    auto& side = sides_[rng_.between(0, sides_.size() - 1)];
    const auto lane = store_->lanes()[static_cast<std::size_t>(side.name.lane)];
    if (lane.next_settle >= lane.next_write) return;
    const std::array before{store_->unsettled(side.name.lane), store_->records(side.name.lane)};
    if (!store_->damage(side.name.lane, rng_.between(lane.next_settle, lane.next_write - 1))) {
        return;
    }
    mark(Mark::segment_damaged);
    const std::array after{store_->unsettled(side.name.lane), store_->records(side.name.lane)};
    for (std::size_t i = 0; i < before.size(); ++i) {
        const std::set<std::string> left(after[i].begin(), after[i].end());
        for (const auto& record : before[i]) {
            if (!left.contains(record)) side.given_up.insert(id_of(record));
        }
    }
}

void SimWorld::jump_wall() {
    const auto by =
        rng_.between(milliseconds{0}, milliseconds{hours{48}}) - milliseconds{hours{24}};
    mark(by.count() > 0 ? Mark::wall_clock_forward : Mark::wall_clock_back);
    clock_.jump_wall(by);
    jumped_ += std::chrono::abs(by);
}

void SimWorld::change_key() {
    mark(Mark::key_changed);
    const auto lane = sides_[some_side()].name.lane;
    const std::string key = rng_.chance(300) ? "" : "key";
    asio::post(threads_[2], [this, key, lane] { pipeline_->pump(lane).set_key(Secret(key)); });
    advance(rng_.between(milliseconds{0}, milliseconds{minutes{5}}));
    check();
    asio::post(threads_[2], [this, lane] { pipeline_->pump(lane).set_key("key"); });
    advance(milliseconds{1});
}

// Events that were never accepted are not put back: their clients may have sent better ones since.
void SimWorld::clear_dead_letters(Clearing how) {
    if (stalled()) return;
    std::map<LaneId, std::vector<spool::Revival>> back;
    std::vector<spool::DeadKey> purge;
    for (const auto& letter : store_->dead_letters()) {
        if (how == Clearing::some && rng_.chance(300)) continue;
        const bool kept = letter.kind == spool::DeadKind::upstream;
        const bool put_back = how == Clearing::some ? rng_.chance(600) : how == Clearing::put_back;
        if (kept && put_back) {
            back[letter.lane].push_back({key_of(letter), {}});
            // Its reply may have been lost before it was refused.
            sides_[static_cast<std::size_t>(letter.lane)].upstream.excuse(letter.id);
        } else {
            purge.push_back(key_of(letter));
            if (!kept) continue;
            sides_[static_cast<std::size_t>(letter.lane)].given_up.insert(letter.id);
        }
    }
    asio::post(threads_[1], [this, back = std::move(back), purge = std::move(purge)] {
        auto& settler = pipeline_->settler();
        for (const auto& [lane, letters] : back) {
            const auto replayed = settler.replay_here(lane, letters);
            if (replayed && *replayed > 0) mark(Mark::dead_letter_put_back);
            pipeline_->note_replayed(lane);
        }
        const auto purged = settler.purge_dead(purge);
        if (purged && *purged > 0) mark(Mark::dead_letter_purged);
    });
    advance(milliseconds{1});
}

void SimWorld::crash(bool power_loss) {
    mark(power_loss ? Mark::power_loss : Mark::kill);
    if (!store_failed_ && rng_.chance(500)) {  // in the middle of whatever is going on
        offer();
        const auto handlers = rng_.between(0, 40);
        for (std::uint64_t i = 0; i < handlers && poll_one(); ++i) {
        }
        mark(Mark::stopped_in_mid_work);
    }
    collect_acks();
    auto after = std::make_unique<test::MemStore>(*store_);
    if (power_loss) {
        after->crash();
        for (const auto& lane : after->lanes()) {
            const auto live = store_->lanes()[static_cast<std::size_t>(lane.lane)];
            if (lane.next_settle < live.next_settle) mark(Mark::unsynced_acks_lost);
        }
    } else {
        after->restart();
    }
    check_kept(*after, power_loss ? "after a power loss" : "after a kill");
    // Whoever waits for a confirmation gets none.
    const auto told = std::exchange(waiting_, {});
    for (const auto& one : told) sides_[one.side].resend.push_back(one.id);
    killed_ = true;
    stop(false);
    for (auto& side : sides_) {
        std::vector<std::string> ids;
        for (const auto& record : after->unsettled(side.name.lane)) ids.push_back(id_of(record));
        side.upstream.note_restart(ids);
    }
    store_ = std::move(after);
    mark_deferred();
    start();
}

void SimWorld::mark_deferred() {
    for (const auto& lane : store_->lanes()) {
        if (!lane.deferred.empty()) mark(Mark::deferred_over_restart);
    }
}

void SimWorld::restart_cleanly() {
    mark(Mark::clean_restart);
    stop(true);
    const auto told = std::exchange(waiting_, {});
    for (const auto& one : told) sides_[one.side].resend.push_back(one.id);
    store_->restart();
    mark_deferred();
    check_kept(*store_, "after a clean stop");
    for (auto& side : sides_) {
        std::vector<std::string> ids;
        for (const auto& record : store_->unsettled(side.name.lane)) ids.push_back(id_of(record));
        side.upstream.note_restart(ids);
    }
    start();
}

// The spool dies with the process: it delivers what it can until its deadline.
void SimWorld::end_with_pod() {
    configure_all();
    offer();
    advance(milliseconds{50});
    std::vector<std::set<std::string>> before;
    for (const auto& side : sides_) before.push_back(side.acknowledged);
    std::optional<bool> drained;
    std::set<std::string> dead;
    const auto deadline = clock_.now() + kPodDeadline;
    for (auto& side : sides_) side.upstream.note_last_try();
    asio::co_spawn(threads_[2], drain_and_tell(*pipeline_, deadline, *store_, drained, dead),
                   asio::detached);
    while (!drained && clock_.now() <= deadline + seconds{1}) {
        if (rng_.chance(200)) offer();
        advance(milliseconds{500});
        check();
    }
    if (!drained) return violate("drain_until() does not end at its deadline");
    mark(*drained ? Mark::drained_at_shutdown : Mark::cut_off_at_shutdown);
    stop(true);
    waiting_.clear();
    for (const auto& letter : store_->dead_letters()) dead.insert(letter.id);
    for (std::size_t i = 0; i < sides_.size(); ++i) {
        auto& side = sides_[i];
        side.resend.clear();
        for (const auto& id : side.acknowledged) {
            if (side.upstream.rows().contains(id) || side.given_up.contains(id)) continue;
            if (*drained && before[i].contains(id) && !dead.contains(id) && !drops_) {
                violate("said to be drained, but not delivered: " + id);
            }
            side.given_up.insert(id);
        }
        side.first_acks = 0;
        side.accepted.clear();
        side.upstream.note_restart({});
    }
    known_.clear();  // the next pod knows none of them
    std::vector<LaneId> lanes;
    for (const auto& side : sides_) lanes.push_back(side.name.lane);
    store_ = std::make_unique<test::MemStore>(rng_.next() | 1U, lanes, dead_limits_);
    start();
}

void SimWorld::act() {
    const auto roll = rng_.between(0, 99);
    const auto may = [this](Hazard hazard) { return (hazards_ & hazard) != 0; };
    if (store_failed_) {  // the daemon exits with code 6 and its supervisor starts it again
        mark(Mark::store_gone);
        crash(false);
    } else if (roll < 55) {
        offer();
        if (rng_.chance(200)) resend();
        advance(rng_.between(milliseconds{0}, milliseconds{50}));
    } else if (roll < 75) {
        const auto most = long_run_ ? milliseconds{hours{24 * 6}} : milliseconds{hours{1}};
        const bool at_length = rng_.chance(long_run_ ? 500 : 200);
        advance(rng_.between(milliseconds{1}, at_length ? most : milliseconds{5000}));
    } else if (roll < 79 && may(power)) {
        crash(true);
    } else if (roll < 81 && may(kills)) {
        crash(false);
    } else if (roll < 82) {
        restart_cleanly();
    } else if (roll < 83) {
        const auto dice = rng_.between(0, 99);
        if (dice < 25) return change_lanes();
        if (dice < 50) return change_lanes_live();
        if (dice < 62) return pause_lanes();
        purge_lane();
    } else if (roll < 84) {
        clear_dead_letters(Clearing::some);
    } else if (roll < 89 && may(disk)) {
        harm_store();
    } else if (roll < 91 && may(damaged)) {
        damage();
    } else if (roll < 93 && may(wall)) {
        jump_wall();
    } else if (roll < 95 && may(keys)) {
        change_key();
    } else if (roll < 97 && may(stall)) {
        mark(Mark::disk_stalled);
        stalled_until_ = clock_.now() + rng_.between(milliseconds{50}, milliseconds{12'000});
    } else if (roll < 99 && may(full)) {
        fill_disk();
    } else if (may(pods)) {
        end_with_pod();
    }
}

}  // namespace opsrelay::sim
