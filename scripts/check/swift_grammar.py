"""Prints the places at which Swift files do not parse, and how many files do.

tree-sitter must be where Python looks. Its grammar is not the compiler's, but a
brace too few, a keyword spelt wrong or half an edit do not pass it.
"""

import sys

import tree_sitter_swift
from tree_sitter import Language, Parser


def faults(node):
    """The nodes that stand for what is no Swift, or is missing."""
    if node.type == "ERROR" or node.is_missing:
        yield node
    for child in node.children:
        yield from faults(child)


def main(paths):
    parser = Parser(Language(tree_sitter_swift.language()))
    wrong = 0
    for path in paths:
        with open(path, "rb") as file:
            found = list(faults(parser.parse(file.read()).root_node))
        wrong += bool(found)
        for node in found:
            what = f"{node.type} is missing" if node.is_missing else "not Swift"
            print(f"{path}:{node.start_point[0] + 1}:{node.start_point[1] + 1}: {what}")
    print(f"{len(paths) - wrong} of {len(paths)} files parse")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
