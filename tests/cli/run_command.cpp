#include "cli/run_command.h"

#include <cstdio>
#include <cstdlib>

namespace opsrelay::cli {

namespace {

/// A stream that writes into memory.
class Capture {
public:
    Capture() : file_(::open_memstream(&bytes_, &size_)) {}
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    ~Capture() { std::free(bytes_); }
    [[nodiscard]] std::FILE* file() const noexcept { return file_; }
    [[nodiscard]] std::string close() {
        std::fclose(file_);
        return {bytes_, size_};
    }

private:
    char* bytes_ = nullptr;
    std::size_t size_ = 0;
    std::FILE* file_;
};

}  // namespace

Program bare_program() {
    Program program{};
    program.in = -1;
    program.in_is_terminal = true;
    program.environment = config::Environment{{}, true};
    program.default_file = "";
    program.try_files = [](const config::Config&) { return FilesReport{}; };
    return program;
}

Outcome run_command(const std::vector<std::string>& arguments, Program program) {
    Capture out;
    Capture err;
    program.out = out.file();
    program.err = err.file();
    Outcome outcome;
    outcome.code = dispatch(arguments, program);
    outcome.out = out.close();
    outcome.err = err.close();
    return outcome;
}

}  // namespace opsrelay::cli
