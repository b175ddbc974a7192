// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The hipattn authors
//
// Several texts at once: two prompts read in one ragged batch, a fork that goes another way, decode
// steps of all three in one call. A text's result does not depend on the batch it runs in.
#include <hipattn/hipattn.hpp>

#include <algorithm>
#include <cstdio>
#include <random>
#include <span>
#include <vector>

namespace {

constexpr uint32_t kLayers = 2;
constexpr uint32_t kHeads = 4;
constexpr uint32_t kKvHeads = 2;
constexpr uint32_t kDim = 64;

// q, k and v of some tokens of one layer, as a model would compute them, and room for the result.
struct Activations {
  std::vector<float> q, k, v, out;

  explicit Activations(size_t tokens, std::mt19937& random)
      : q(tokens * kHeads * kDim),
        k(tokens * kKvHeads * kDim),
        v(tokens * kKvHeads * kDim),
        out(q.size()) {
    std::normal_distribution<float> normal;
    for (std::vector<float>* part : {&q, &k, &v}) {
      std::generate(part->begin(), part->end(), [&] { return normal(random); });
    }
  }
  hipattn::Tensors<float> tensors() { return {.q = q, .k = k, .v = v, .out = out}; }
};

// The row of `numbers` that belongs to token `token`, as a tensor of one token.
template <typename T>
std::span<T> Row(std::vector<T>& numbers, size_t token, size_t width) {
  return std::span<T>(numbers).subspan(token * width, width);
}

bool Run() {
  hipattn_engine_options_t model = HIPATTN_ENGINE_OPTIONS_INIT;
  model.num_layers = kLayers;
  model.num_q_heads = kHeads;
  model.num_kv_heads = kKvHeads;
  model.head_dim = kDim;
  hipattn::Engine engine(model);
  hipattn_attention_options_t sparse = HIPATTN_ATTENTION_OPTIONS_INIT;
  sparse.decode_mode = HIPATTN_DECODE_SPARSE;
  sparse.budget_tokens = 256;
  sparse.window_tokens = 64;
  hipattn::Sequence story(engine, sparse);
  hipattn::Sequence letter(engine, sparse);
  std::mt19937 random(1);

  // Two prompts of different length in one call per layer: their rows lie one after the other.
  const std::vector<uint32_t> prompt_tokens = {3000, 70};
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Activations prompts(3070, random);
    const std::vector<hipattn_sequence_t*> texts = {story.get(), letter.get()};
    engine.Attend<float>(layer, texts, prompt_tokens, prompts.tensors());
  }

  // A fork shares the blocks of the first 2000 tokens; from there both sides go on alone.
  hipattn::Sequence other_end = story.Fork(2000);
  hipattn::Sequence again = letter.Fork(letter.length());

  // A decode step of all three, and of the copy of one of them alone.
  bool same = true;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Activations step(3, random);
    const std::vector<hipattn_sequence_t*> texts = {story.get(), letter.get(), other_end.get()};
    const std::vector<uint32_t> one_each = {1, 1, 1};
    engine.Attend<float>(layer, texts, one_each, step.tensors());

    std::vector<float> alone(kHeads * kDim);
    const hipattn::Tensors<float> letters_row = {.q = Row(step.q, 1, kHeads * kDim),
                                                 .k = Row(step.k, 1, kKvHeads * kDim),
                                                 .v = Row(step.v, 1, kKvHeads * kDim),
                                                 .out = alone};
    engine.Attend<float>(layer, again, letters_row);
    same = same && std::ranges::equal(alone, Row(step.out, 1, kHeads * kDim));
  }
  std::printf("lengths: story %u, letter %u, other end %u\n",
              static_cast<unsigned>(story.length()),
              static_cast<unsigned>(letter.length()),
              static_cast<unsigned>(other_end.length()));
  std::printf("story attends %zu of %u blocks in layer 0\n",
              story.Selection(0, 0).size(),
              static_cast<unsigned>(story.length() / 16 + 1));
  std::printf("alone and in the batch: %s\n", same ? "the same bits" : "different");
  return same && other_end.length() == 2001;
}

}  // namespace

int main() {
  try {
    return Run() ? 0 : 1;
  } catch (const hipattn::Error& error) {  // names the status, the field and the value
    (void)std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
