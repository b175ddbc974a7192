// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Runs a program and collects what it says.
#ifndef HIPATTN_TESTS_RUN_RUN_PROGRAM_H_
#define HIPATTN_TESTS_RUN_RUN_PROGRAM_H_

#include <string>
#include <vector>

namespace hipattn_run::testing {

struct ProgramResult {
  int exit_code = -1;  // -1: ended by a signal or not started
  std::string out;
  std::string err;
};

// `arguments` begins with the path of the program.
ProgramResult RunProgram(const std::vector<std::string>& arguments);

// The whole file; "" if there is none.
std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& bytes);

// A new empty folder, removed when the object goes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace hipattn_run::testing

#endif  // HIPATTN_TESTS_RUN_RUN_PROGRAM_H_
