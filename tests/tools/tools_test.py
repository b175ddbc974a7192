#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests of the checks: each finds what it is there for, and leaves alone what only looks like it."""
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import check_headers
import check_layers
import check_links
import check_sizes
import check_snippets
import no_dead_code
import source_tree


class Blank(unittest.TestCase):
    def test_comments_and_literals_go_positions_stay(self):
        text = 'int a = f("// {", \'"\', 1\'000);  // }\n/* {\n */ int b;'
        blank = source_tree.blank(text)
        self.assertEqual(len(blank), len(text))
        self.assertEqual(blank.count("\n"), 2)
        self.assertNotIn("{", blank)
        self.assertIn("1'000", blank)


class Layers(unittest.TestCase):
    def test_rows(self):
        self.assertTrue(check_layers.wrong("core", "device/device.h"))
        self.assertTrue(check_layers.wrong("engine", "host/executors.h"))
        self.assertTrue(check_layers.wrong("offload", "tbb/task_arena.h"))
        self.assertTrue(check_layers.wrong("engine", "immintrin.h"))
        self.assertTrue(check_layers.wrong("engine", "hipattn/hipattn.h"))
        self.assertTrue(check_layers.wrong("pool", "engine/head_store.h"))
        for layer, included in (("core", "base/tree.h"), ("engine", "core/search/tree_walk.h"), ("api", "hipattn/hipattn.h"),
                                ("pool", "engine/engine.h"), ("host", "hwloc.h"), ("base", "vector")):
            self.assertFalse(check_layers.wrong(layer, included), (layer, included))


class Sizes(unittest.TestCase):
    LONG = "  x();\n" * 81

    def sizes(self, text):
        return [(body, count) for _, body, count in check_sizes.functions(text)]

    def test_functions(self):
        self.assertEqual(self.sizes("int f() {\n" + self.LONG + "}\n"), [(81, 0)])
        self.assertEqual(self.sizes("A::A(int a, std::map<int, int> m) : a_(a) {\n  x();\n}\n"), [(1, 2)])
        self.assertEqual(self.sizes("namespace n {\nclass C {\n  int f(int a) const {\n    if (a) {\n    }\n    return 1;\n  }\n};\n}\n"),
                         [(3, 1)])
        self.assertEqual(self.sizes("void f(A a, B b) {\n  run([&](size_t i) {\n    g(i);\n  });\n}\n"), [(3, 2)])
        self.assertEqual(self.sizes("enum class E { kA, kB };\nconst int t[] = {1, 2};\nstruct S {\n};\n"), [])
        self.assertEqual(self.sizes("#define M(x) do { x } while (false)\nauto f() -> int {\n  return 1;\n}\n"), [(1, 0)])

    def test_limits(self):
        path = pathlib.Path(__file__).resolve().parent / "check_sizes.py"
        self.assertEqual(list(check_sizes.check(path, "src/a.py")), [])


class DeadCode(unittest.TestCase):
    def found(self, text):
        return [line for line, _ in no_dead_code.check(text)]

    def test_finds(self):
        for line in ("#if 0", "  std::cout << x;", "  printf(\"x\");", "exit(1);", "getenv(\"X\");", "// foo(bar);", "  // int x = 3;",
                     "// if (a) {", "// TODO: later", "x();  // FIXME", "//}"):
            self.assertEqual(self.found(line), [1], line)

    def test_leaves_alone(self):
        for line in ("// Splits merge in order (see below); an empty list gives 0.", "//   walk.Begin(config, range);", "snprintf(b, 4, x);",
                     "// m = max(lse_a, lse_b), then both sides scale", 'Log("exit(1)");', "printf(x);  // allowed: the reason",
                     "exit_code(3);", "// No call aborts or exits."):
            self.assertEqual(self.found(line), [], line)


class Headers(unittest.TestCase):
    SPDX = "// SPDX-License-Identifier: Apache-2.0\n"

    def test_guard_names(self):
        self.assertEqual(check_headers.guard_name("src/base/log.h"), "HIPATTN_BASE_LOG_H_")
        self.assertEqual(check_headers.guard_name("include/hipattn/hipattn.hpp"), "HIPATTN_HIPATTN_HPP_")
        self.assertEqual(check_headers.guard_name("tests/support/compare.h"), "HIPATTN_TESTS_SUPPORT_COMPARE_H_")

    def test_finds(self):
        self.assertEqual(len(list(check_headers.check("src/a.cc", "int a;\n"))), 1)
        self.assertEqual(len(list(check_headers.check("src/a.h", self.SPDX + "#ifndef A_H\n#define A_H\n#endif\n"))), 1)
        for line in ("/work/main/x", "x = /home/me/y", "10.1.2.3", "https://example.com/x", "pip --index-url x"):  # allowed: test data
            self.assertEqual(len(list(check_headers.check("src/a.cc", self.SPDX + line))), 1, line)

    def test_leaves_alone(self):
        good = self.SPDX + "#ifndef HIPATTN_A_H_\n#define HIPATTN_A_H_\n// arXiv https://arxiv.org/abs/1 build/work/x 1.2.3\n#endif\n"
        self.assertEqual(list(check_headers.check("src/a.h", good)), [])


class Documents(unittest.TestCase):
    def test_anchors(self):
        self.assertEqual(check_links.anchors("# One step\n```sh\n# no heading\n```\n## `run`: a, b\n"), {"one-step", "run-a-b"})

    def test_snippets(self):
        blocks = check_snippets.BLOCK.findall("```c\nint x;\n```\n```sh\nls\n```\n```cpp file=a.cc\nint y;\n```\n")
        self.assertEqual(blocks, [("c", "", "int x;\n"), ("cpp", "a.cc", "int y;\n")])
        self.assertTrue(re.search(r"void snippet\(void\) \{\nint x;", check_snippets.program("c", "int x;\n")))
        self.assertEqual(check_snippets.program("c", "int main(void) { return 0; }"), "int main(void) { return 0; }")


if __name__ == "__main__":
    unittest.main()
