// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// hipattn-run: answers a prompt with a Llama model from a GGUF file. The model's attention is
// hipattn's, through the C API; see llama_forward.cc for the calls.
//
// Exit codes: 0 done, 1 failed, 2 wrong command line.
#include "chat_template.h"
#include "gguf.h"
#include "llama_model.h"
#include "logits.h"
#include "options.h"
#include "prompt.h"
#include "report.h"
#include "saved_text.h"
#include "session.h"
#include "tokenizer.h"

#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace hipattn_run {
namespace {

void PrintTokens(const std::vector<int32_t>& tokens) {
  for (const int32_t token : tokens) {
    std::cout << token << '\n';
  }
}

void WarnAboutLength(size_t tokens, const Options& options, size_t trained_tokens) {
  const uint64_t length = options.depth + tokens + options.max_new_tokens;
  if (length > trained_tokens && !options.quiet) {
    std::cerr << "warning: the text may grow to " << length << " tokens, the model was trained to "
              << trained_tokens << ": answers beyond it mean little\n";
  }
}

const char* AttentionName(uint32_t decode_mode) {
  return decode_mode == HIPATTN_DECODE_DENSE    ? "dense"
         : decode_mode == HIPATTN_DECODE_SPARSE ? "sparse"
                                                : "auto";
}

// Answers once, streaming, from the sequence that read the prompt.
Status AnswerOnce(const Options& options,
                  Session& session,
                  const Sequence& sequence,
                  Report* report) {
  if (options.compare_prefill) {
    std::cout << report->readings.back().prefill << ": ";
  }
  Result<Answer> answer =
      session.Generate(sequence, [](std::string_view text) { std::cout << text << std::flush; });
  if (!answer.ok()) {
    return answer.status();
  }
  std::cout << '\n';
  report->answers.push_back({AttentionName(options.attention), std::move(answer.value())});
  return {};
}

// Answers dense and sparse from two forks of the prompt.
Status AnswerBothWays(const Options& options,
                      Session& session,
                      const Sequence& sequence,
                      Report* report) {
  for (const uint32_t mode : {HIPATTN_DECODE_DENSE, HIPATTN_DECODE_SPARSE}) {
    Result<Sequence> fork =
        ForkSequence(sequence, MakeAttentionOptions(options, mode, options.prefill));
    if (!fork.ok()) {
      return fork.status();
    }
    std::cout << AttentionName(mode) << ": ";
    Result<Answer> answer = session.Generate(
        fork.value(), [](std::string_view text) { std::cout << text << std::flush; });
    if (!answer.ok()) {
      return answer.status();
    }
    std::cout << "\n";
    report->answers.push_back({AttentionName(mode), std::move(answer.value())});
  }
  return {};
}

// What --save-text and --load-text keep of the prompt.
Result<KeptText> KeepText(const Options& options,
                          const GgufFile& file,
                          const ChatTemplate& chat_template,
                          const std::vector<int32_t>& prompt,
                          Tokenizer& tokenizer) {
  Options asked_nothing = options;
  if (!options.prompt.empty() || !options.prompt_file.empty()) {
    asked_nothing.question.clear();
  }
  const size_t no_limit = SIZE_MAX;
  const Result<std::vector<int32_t>> without =
      MakePrompt(asked_nothing, chat_template, no_limit, tokenizer);
  if (!without.ok()) {
    return without.status();
  }
  const size_t tokens = SavedTokens(prompt, without.value());
  if (tokens == 0) {
    return Status::Error("the prompt has too few tokens before its question to be saved or loaded");
  }
  return KeptText{tokens, TextFingerprint(file, std::span(prompt).first(tokens))};
}

// Reads the prompt once, or densely first, and answers each time. The last sequence stays.
Result<Sequence> ReadAndAnswer(const Options& options,
                               const std::vector<int32_t>& prompt,
                               Session& session,
                               Report* report) {
  std::vector<uint32_t> modes = {options.prefill};
  if (options.compare_prefill) {
    modes.insert(modes.begin(), HIPATTN_PREFILL_DENSE);
  }
  Sequence last;
  for (const uint32_t mode : modes) {
    last.reset();  // before the next one needs its memory
    Result<Sequence> sequence = session.ReadPrompt(prompt, mode, &report->readings.emplace_back());
    if (!sequence.ok()) {
      return sequence.status();
    }
    last = std::move(sequence.value());
    const Status status = options.compare ? AnswerBothWays(options, session, last, report)
                                          : AnswerOnce(options, session, last, report);
    if (!status.ok()) {
      return status;
    }
    if (options.compare_prefill) {
      Reading& reading = report->readings.back();
      reading.kl = KullbackLeibler(report->readings.front().logits, reading.logits);
      reading.same_answer =
          report->answers.back().answer.tokens == report->answers.front().answer.tokens;
    }
  }
  return last;
}

Status Run(const Options& options) {
  Result<GgufFile> file = GgufFile::Open(options.model);
  if (!file.ok()) {
    return file.status();
  }
  Result<Tokenizer> tokenizer = Tokenizer::Create(file.value());
  if (!tokenizer.ok()) {
    return tokenizer.status();
  }
  Result<LlamaModel> model = LlamaModel::Load(file.value());
  if (!model.ok()) {
    return model.status();
  }
  if (options.rope_base > 0) {
    model.value().SetRopeBase(options.rope_base);
  }
  const ChatTemplate chat_template = ChatTemplate::FromFile(file.value());
  if (chat_template.family() == ChatTemplate::Family::kNone && !options.raw && !options.quiet) {
    std::cerr << "note: the model has no chat template known here, the prompt goes in as it is\n";
  }
  const size_t trained_tokens = model.value().config.trained_tokens;
  Result<std::vector<int32_t>> prompt =
      MakePrompt(options, chat_template, trained_tokens, tokenizer.value());
  if (!prompt.ok()) {
    return prompt.status();
  }
  if (options.dump_tokens) {
    PrintTokens(prompt.value());
    return {};
  }
  WarnAboutLength(prompt.value().size(), options, trained_tokens);

  Result<std::unique_ptr<Session>> session =
      Session::Create(model.value(), tokenizer.value(), options);
  if (!session.ok()) {
    return session.status();
  }
  if (!options.head_profile.empty()) {
    RUN_RETURN_IF_ERROR(LoadHeadProfile(session.value()->engine(), options.head_profile));
  }
  if (!options.patterns.empty()) {
    RUN_RETURN_IF_ERROR(LoadPatterns(session.value()->engine(), options.patterns));
  }
  if (!options.save_text.empty() || !options.load_text.empty()) {
    Result<KeptText> kept =
        KeepText(options, file.value(), chat_template, prompt.value(), tokenizer.value());
    if (!kept.ok()) {
      return kept.status();
    }
    session.value()->SetKeptText(std::move(kept.value()));
  }
  Report report;
  report.threads = session.value()->num_threads();
  report.depth = options.depth;
  report.prompt_tokens = prompt.value().size();
  const Result<Sequence> sequence =
      ReadAndAnswer(options, prompt.value(), *session.value(), &report);
  if (!sequence.ok()) {
    return sequence.status();
  }
  if (!options.quiet) {
    std::cerr << '\n' << FormatSummary(report);
  }
  if (!options.head_profile.empty()) {
    RUN_RETURN_IF_ERROR(SaveHeadProfile(sequence.value(), options.head_profile));
  }
  if (!options.json.empty()) {
    RUN_RETURN_IF_ERROR(WriteJson(report, options.json));
  }
  return {};
}

// Says why and ends the process at once: where memory is short, the BLAS library's threads, for
// which an orderly exit would wait, ask for theirs without end.
[[noreturn]] void Fail(const char* reason) {
  std::cout.flush();
  std::cerr << "hipattn-run: " << reason << '\n';
  std::_Exit(1);
}

int Main(int argc, char** argv) {
  Options options;
  if (const std::optional<int> exit_code = ParseOptions(argc, argv, &options)) {
    return *exit_code;
  }
  const Status status = Run(options);
  std::cout.flush();
  if (!status.ok()) {
    Fail(status.message().c_str());
  }
  if (!std::cout) {
    Fail("cannot write the answer to stdout");
  }
  return 0;
}

}  // namespace
}  // namespace hipattn_run

int main(int argc, char** argv) {
  try {
    return hipattn_run::Main(argc, argv);
  } catch (const std::exception& error) {
    // The standard library's own failures, memory above all.
    hipattn_run::Fail(error.what());
  }
}
