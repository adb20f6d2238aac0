// Dead letters, as JSON from /dead/list and /dead/show, for a terminal and for a spreadsheet.
#pragma once

#include <rapidjson/fwd.h>

#include <string>

namespace opsrelay::cli {

/// The heading of the table, and one line of it, each with its newline.
[[nodiscard]] std::string table_heading();
[[nodiscard]] std::string table_row(const rapidjson::Value& letter);

/// Everything that is kept, one "name: value" a line; the event comes last, as it is stored.
[[nodiscard]] std::string letter_text(const rapidjson::Value& letter);

/// RFC 4180, lines end with CR LF; the event is a column of JSON text.
[[nodiscard]] std::string csv_heading();
[[nodiscard]] std::string csv_row(const rapidjson::Value& letter);

/// As one line of JSON, without a newline.
[[nodiscard]] std::string json_text(const rapidjson::Value& value);

}  // namespace opsrelay::cli
