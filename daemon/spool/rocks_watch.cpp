#include "spool/rocks_watch.h"

#include <rocksdb/listener.h>

#include <utility>

#include "spool/keys.h"

namespace opsrelay::spool {
namespace {

class Listener final : public rocksdb::EventListener {
public:
    explicit Listener(std::shared_ptr<Watch> watch) : watch_(std::move(watch)) {}

    void OnMemTableSealed(const rocksdb::MemTableInfo& info) override {
        // All families are flushed together, so the segment families stand for each other.
        if (parse_segment_family(info.cf_name)) watch_->note_seal();
    }
    void OnBackgroundError(rocksdb::BackgroundErrorReason reason, rocksdb::Status* error) override {
        if (reason == rocksdb::BackgroundErrorReason::kMemTable) watch_->note_failed_switch();
        // A block that cannot be read costs what it held, which read() reports. RocksDB would take
        // no write any more, now and after each start.
        if (reason == rocksdb::BackgroundErrorReason::kCompaction && error->IsCorruption()) {
            *error = rocksdb::Status::OK();
            watch_->note_damage();
        } else if (error->severity() >= rocksdb::Status::kFatalError) {
            watch_->note_fatal();
        }
    }

    void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status error,
                              bool* recover) override {
        // It would go on with the log that has failed, and assert (RocksWriter).
        if (error.severity() >= rocksdb::Status::kHardError) *recover = false;
    }

private:
    const std::shared_ptr<Watch> watch_;
};

}  // namespace

std::shared_ptr<rocksdb::EventListener> make_listener(std::shared_ptr<Watch> watch) {
    return std::make_shared<Listener>(std::move(watch));
}

}  // namespace opsrelay::spool
