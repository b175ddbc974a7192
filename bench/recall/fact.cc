// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
#include "fact.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <random>

namespace recall_bench {
namespace {

// Facts lie where a search has to find them: behind the sinks, before the window and the question.
constexpr double kLeastDepth = 0.10;
constexpr double kGreatestDepth = 0.85;
constexpr double kLeastDistractorDepth = 0.02;
constexpr double kGreatestDistractorDepth = 0.95;

constexpr const char* kNames[] = {"Paris",   "Lisbon", "Oslo",   "Cairo",  "Lima",    "Quito",
                                  "Hanoi",   "Seoul",  "Vienna", "Athens", "Dublin",  "Geneva",
                                  "Havana",  "Madrid", "Prague", "Warsaw", "Zagreb",  "Berlin",
                                  "Boston",  "Dallas", "Denver", "Moscow", "Mumbai",  "Munich",
                                  "Nairobi", "Tokyo",  "Venice", "Sydney", "Toronto", "Zurich"};
constexpr const char* kWords[] = {"lantern", "marble", "pepper", "violin", "walnut", "copper",
                                  "garlic",  "hammer", "ladder", "magnet", "needle", "orchid",
                                  "parrot",  "pillow", "pocket", "rabbit", "rocket", "saddle",
                                  "silver",  "spider", "sponge", "ticket", "tunnel", "turtle",
                                  "velvet",  "window", "button", "candle", "carpet", "cactus"};

// Sentences with %n for the name and %v for the value.
struct Form {
  const char* label;
  bool is_number;
  const char* statement;
  const char* question;
  const char* answer;  // how the answer begins
};
// Short, with the name close to the value: small models mix up longer ones themselves.
constexpr Form kForms[] = {
    {"secret-number",
     true,
     "The secret number of %n is %v.",
     "What is the secret number of %n?",
     "The secret number of %n is"},
    {"telephone",
     true,
     "The telephone number of %n is %v.",
     "What is the telephone number of %n?",
     "The telephone number of %n is"},
    {"door-code",
     true,
     "The door code of %n is %v.",
     "What is the door code of %n?",
     "The door code of %n is"},
    {"password",
     false,
     "The password of %n is %v.",
     "What is the password of %n?",
     "The password of %n is"},
    {"emblem",
     false,
     "The emblem of %n is a %v.",
     "What is the emblem of %n?",
     "The emblem of %n is a"},
};

// The standard library's distributions differ between systems; these do not.
class Random {
 public:
  Random(uint64_t seed, uint64_t index) : bits_(seed * 0x9e3779b97f4a7c15U + index) {
    bits_.discard(8);
  }
  size_t Below(size_t count) { return static_cast<size_t>(bits_() % count); }
  double Uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(bits_() >> 11) * 0x1p-53);
  }
  // `count` different numbers below `size`.
  std::vector<size_t> Sample(size_t size, size_t count) {
    std::vector<size_t> all(size);
    std::iota(all.begin(), all.end(), size_t{0});
    for (size_t i = 0; i < count; ++i) {
      std::swap(all[i], all[i + Below(size - i)]);
    }
    all.resize(count);
    return all;
  }

 private:
  std::mt19937_64 bits_;
};

std::string Fill(std::string text, const std::string& name, const std::string& value) {
  for (const auto& [mark, replacement] : {std::pair("%n", name), std::pair("%v", value)}) {
    if (const size_t at = text.find(mark); at != std::string::npos) {
      text.replace(at, 2, replacement);
    }
  }
  return text;
}

std::vector<std::string> DrawValues(const Form& form, size_t count, Random* random) {
  std::vector<std::string> values;
  if (!form.is_number) {
    for (const size_t word : random->Sample(std::size(kWords), count)) {
      values.emplace_back(kWords[word]);
    }
    return values;
  }
  while (values.size() < count) {
    const std::string number = std::to_string(10000 + random->Below(90000));
    if (std::find(values.begin(), values.end(), number) == values.end()) {
      values.push_back(number);
    }
  }
  return values;
}

const Form& FindForm(const std::string& label) {
  return *std::find_if(
      std::begin(kForms), std::end(kForms), [&](const Form& form) { return form.label == label; });
}

struct Insertion {
  size_t at;  // tokens of the slice before it
  const std::vector<int32_t>* tokens;
};

}  // namespace

std::vector<std::string> FactForms() {
  std::vector<std::string> labels;
  for (const Form& form : kForms) {
    labels.emplace_back(form.label);
  }
  return labels;
}

Fact MakeFact(const FactOptions& options, uint64_t index) {
  const std::vector<std::string> labels = options.forms.empty() ? FactForms() : options.forms;
  Random random(options.seed, index);
  const Form& form = FindForm(labels[random.Below(labels.size())]);
  const size_t count = size_t{options.distractors} + 1;
  const std::vector<size_t> names = random.Sample(std::size(kNames), count);
  const std::vector<std::string> values = DrawValues(form, count, &random);
  Fact fact;
  fact.form = form.label;
  fact.name = kNames[names[0]];
  fact.value = values[0];
  for (size_t i = 0; i < count; ++i) {
    const std::string sentence = Fill(form.statement, kNames[names[i]], values[i]);
    const Hidden hidden = {"\n\n" + sentence + "\n\n",
                           i == 0
                               ? random.Uniform(kLeastDepth, kGreatestDepth)
                               : random.Uniform(kLeastDistractorDepth, kGreatestDistractorDepth)};
    if (i == 0) {
      fact.hidden = hidden;
    } else {
      fact.distractors.push_back(hidden);
    }
  }
  fact.question = "\n\nQuestion: " + Fill(form.question, fact.name, "") +
                  "\nAnswer: " + Fill(form.answer, fact.name, "");
  fact.slice = random.Uniform(0, 1);
  return fact;
}

Result<Prompt> HideFact(const Fact& fact,
                        const std::vector<int32_t>& text,
                        const PromptShape& shape,
                        const Encode& encode) {
  Prompt prompt;
  std::vector<std::vector<int32_t>> statements;
  std::vector<const Hidden*> hidden = {&fact.hidden};
  for (const Hidden& distractor : fact.distractors) {
    hidden.push_back(&distractor);
  }
  size_t added = shape.answer_tokens;
  if (shape.bos) {
    prompt.tokens.push_back(*shape.bos);
    ++added;
  }
  for (const Hidden* one : hidden) {
    Result<std::vector<int32_t>> tokens = encode(one->statement);
    if (!tokens.ok()) {
      return tokens.status();
    }
    added += tokens.value().size();
    statements.push_back(std::move(tokens.value()));
  }
  Result<std::vector<int32_t>> question = encode(fact.question);
  if (!question.ok()) {
    return question.status();
  }
  prompt.question = std::move(question.value());
  added += prompt.question.size();
  if (shape.total_tokens <= added) {
    return Status::Error(
        "--tokens is ", shape.total_tokens, ", facts, question and answer alone have ", added);
  }
  const size_t slice_tokens = shape.total_tokens - added;
  if (text.size() < slice_tokens) {
    return Status::Error("the text has ", text.size(), " tokens, --tokens needs ", slice_tokens);
  }
  const auto share_of = [](double share, size_t whole) {
    return static_cast<size_t>(share * static_cast<double>(whole));
  };
  const size_t begin = share_of(fact.slice, text.size() - slice_tokens + 1);
  std::vector<Insertion> insertions;
  for (size_t i = 0; i < hidden.size(); ++i) {
    insertions.push_back({share_of(hidden[i]->depth, slice_tokens), &statements[i]});
  }
  std::stable_sort(insertions.begin(), insertions.end(), [](const auto& a, const auto& b) {
    return a.at < b.at;
  });
  const auto slice = text.begin() + static_cast<std::ptrdiff_t>(begin);
  size_t done = 0;
  const auto copy_until = [&](size_t end) {
    prompt.tokens.insert(prompt.tokens.end(),
                         slice + static_cast<std::ptrdiff_t>(done),
                         slice + static_cast<std::ptrdiff_t>(end));
    done = end;
  };
  for (const Insertion& insertion : insertions) {
    copy_until(insertion.at);
    if (insertion.tokens == &statements[0]) {
      prompt.fact_begin = prompt.tokens.size();
      prompt.fact_end = prompt.fact_begin + insertion.tokens->size();
    }
    prompt.tokens.insert(prompt.tokens.end(), insertion.tokens->begin(), insertion.tokens->end());
  }
  copy_until(slice_tokens);
  return prompt;
}

}  // namespace recall_bench
