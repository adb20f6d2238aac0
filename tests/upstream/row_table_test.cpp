#include "upstream/row_table.h"

#include <doctest/doctest.h>

#include <string>

namespace opsrelay::upstream {

TEST_CASE("upstream/row_table: many ids stay distinct as the table grows") {
    RowTable rows({100'000, Bytes{1U << 30U}, true});
    for (int i = 0; i < 20'000; ++i) {
        REQUIRE(rows.insert(std::to_string(i), "x", DataMode::real, false) ==
                RowTable::Inserted::added);
    }
    for (int i = 0; i < 20'000; ++i) {
        REQUIRE(rows.insert(std::to_string(i), "x", DataMode::real, false) ==
                RowTable::Inserted::same);
    }
    CHECK(rows.insert("7", "y", DataMode::real, false) == RowTable::Inserted::different);
    CHECK(rows.size() == 20'000);
    CHECK(rows.id(0) == "0");
    CHECK(rows.id(19'999) == "19999");
    CHECK(rows.body(3).empty());
    CHECK(rows.contains("12345"));
    CHECK_FALSE(rows.contains("20000"));
    rows.clear();
    CHECK_FALSE(rows.contains("1"));
}

TEST_CASE("upstream/row_table: rows of one mode are taken out, the others stay in order") {
    for (const bool ids_only : {false, true}) {
        CAPTURE(ids_only);
        RowTable rows({100'000, Bytes{1U << 20U}, ids_only});
        for (int i = 0; i < 3000; ++i) {
            const auto mode = i % 3 == 0 ? DataMode::test : DataMode::real;
            REQUIRE(rows.insert(std::to_string(i), "body", mode, false) ==
                    RowTable::Inserted::added);
        }
        const auto generation = rows.generation();
        CHECK(rows.remove(DataMode::demo) == 0);
        CHECK(rows.remove(DataMode::test) == 1000);
        CHECK(rows.remove(DataMode::test) == 0);
        CHECK(rows.generation() > generation);
        CHECK(rows.size() == 2000);
        CHECK(rows.id(0) == "1");
        CHECK(rows.id(1999) == "2999");
        CHECK(rows.body(1999) == (ids_only ? "" : "body"));
        CHECK_FALSE(rows.contains("0"));
        CHECK_FALSE(rows.contains("2997"));
        for (int i = 0; i < 3000; ++i) {
            if (i % 3 != 0) REQUIRE(rows.contains(std::to_string(i)));
        }
        // A removed id is new again, and the room it took is free.
        const auto before = rows.bytes().count;
        CHECK(rows.insert("0", "again", DataMode::real, false) == RowTable::Inserted::added);
        CHECK(rows.bytes().count == before + 1 + (ids_only ? 0U : 5U));
    }
}

TEST_CASE("upstream/row_table: the last content may change a row's mode") {
    RowTable rows({10, Bytes{1000}, false});
    CHECK(rows.insert("a", "1", DataMode::test, true) == RowTable::Inserted::added);
    CHECK(rows.insert("a", "2", DataMode::real, true) == RowTable::Inserted::different);
    CHECK(rows.remove(DataMode::test) == 0);
    CHECK(rows.remove(DataMode::real) == 1);
    CHECK(rows.bytes().count == 0);
}

}  // namespace opsrelay::upstream
