// What one who watches sees of records that are sent.
#include <doctest/doctest.h>

#include "forward/pump_world.h"
#include "support/watcher.h"

namespace opsrelay::forward {

TEST_CASE("forward/pump: delivered, dead and tried again are shown, with the reply as the reason") {
    test::Watcher watcher;
    test::PumpWorld world;
    world.pump.set_tap(&watcher.tap);
    world.start();
    world.commit(1);
    REQUIRE(world.run_until_settled());
    CHECK(watcher.take() == "delivered id-1");

    world.upstream.script({test::answer(503), test::answer(400)});
    world.commit(1);
    REQUIRE(world.run_until_settled());
    CHECK(watcher.take() == "retried id-2: 503; dead id-2: 400");

    watcher.tap.want(0);
    world.commit(1);
    REQUIRE(world.run_until_settled());
    CHECK(watcher.take().empty());
    CHECK(world.balanced());
}

}  // namespace opsrelay::forward
