#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "cli/describe.h"

namespace opsrelay::cli {

namespace {

// groff_char(7): a hyphen that is to be copied, a backslash; man(7): no line begins a request.
std::string roff(std::string_view text) {
    std::string out;
    if (text.starts_with('.') || text.starts_with('\'')) out += "\\&";
    for (const char c : text) {
        if (c == '\\') {
            out += "\\e";
        } else if (c == '-') {
            out += "\\-";
        } else if (c == '\'') {
            out += "\\(aq";
        } else if (c == '`') {
            out += "\\(ga";
        } else {
            out += c;
        }
    }
    return out;
}

// Indented lines stay as they are, the others are paragraphs, as --help has them.
void append_footer(std::string& out, std::string_view footer) {
    bool shown = false;  // within lines that stay
    bool paragraph = false;
    const auto end_shown = [&] {
        if (shown) out += ".EE\n.RE\n";
        shown = false;
    };
    while (!footer.empty()) {
        const auto line = footer.substr(0, footer.find('\n'));
        footer.remove_prefix(std::min(footer.size(), line.size() + 1));
        if (line.empty()) {
            end_shown();
            paragraph = false;
        } else if (line.starts_with("  ")) {
            if (!shown) out += ".RS 4\n.EX\n";
            shown = true;
            paragraph = false;
            out += roff(line.substr(2)) + "\n";
        } else {
            end_shown();
            const bool begins = !paragraph || line.starts_with("Exit codes:");
            if (begins) out += ".PP\n";
            paragraph = true;
            out += roff(line) + "\n";
        }
    }
    end_shown();
}

void append_options(std::string& out, const CommandPage& page) {
    for (const auto& option : page.options) {
        std::string names;
        for (const auto& name : option.names) {
            const auto shown = option.positional ? fmt::format("[\\fI{}\\fP...]", roff(option.type))
                                                 : fmt::format("\\fB{}\\fP", roff(name));
            names += (names.empty() ? "" : ", ") + shown;
        }
        if (!option.type.empty() && !option.positional) {
            const auto type = fmt::format("\\fI{}\\fP", roff(option.type));
            names += option.optional_value ? " [" + type + "]" : " " + type;
        }
        out += fmt::format(".TP\n{}\n{}\n", names, roff(option.help));
    }
}

void append_command(std::string& out, const CommandPage& page) {
    out += fmt::format(".SS opsrelay {}\n{}.\n", roff(page.path), roff(page.help));
    append_options(out, page);
    append_footer(out, page.footer);
}

}  // namespace

std::string manual_page(const CommandPage& program) {
    std::string out = fmt::format(
        ".\\\" Made by `opsrelay man` from the definitions that --help shows.\n"
        ".TH OPSRELAY 1 \"\" \"opsrelay {}\" \"User Commands\"\n.SH NAME\n"
        "opsrelay \\- make LLM\\-cost telemetry durable, deduplicate it and deliver it\n"
        ".SH SYNOPSIS\n.B opsrelay\n.I COMMAND\n[\\fIOPTION\\fP...]\n.SH DESCRIPTION\n{}\n",
        roff(OPSRELAY_VERSION), roff(program.help));
    append_options(out, program);
    append_footer(out, program.footer);
    out += ".SH COMMANDS\n";
    for_each_page(program, [&](const CommandPage& page) {
        if (!page.path.empty()) append_command(out, page);
    });
    out +=
        ".SH FILES\n.TP\n.I /etc/opsrelay/opsrelay.yaml\nThe configuration, read if it is there.\n"
        ".TP\n.I /run/opsrelay\nThe sockets of a daemon that root runs.\n"
        ".TP\n.I /var/lib/opsrelay\nIts spool.\n";
    return out;
}

}  // namespace opsrelay::cli
