"""Holds the Swift sources of capi/swift against what they are written for: the
names, arguments, numbers and fields of mlxr.h, and the JSON of capi/figures.go and internal/telemetry.

A Swift compiler checks other things: it knows neither the JSON nor the numbers
that the enums repeat. Linux, where most of this project is built, has none.
"""

import re

# Swift's enumerations and the prefix of the header's constants that they repeat.
ENUMS = {
    "Device": "MLXR_DEVICE_",
    "DType": "MLXR_DTYPE_",
    "Activation": "MLXR_SCORES_",
    "LongDocuments": "MLXR_LONG_",
    "LogLevel": "MLXR_LOG_",
}
# Swift's structs and the Go structs of the JSON that they are read from.
JSON = {"Info": ["info", "Info"], "Stats": ["stats"], "Distribution": ["Spread"], "Memory": ["Memory"]}
# What Swift has no use for: it has strings of its own.
UNUSED = {"mlxr_string"}


def faults(header, swift, go):
    """Returns the differences, a sentence each. swift is all sources in one text."""
    c, code = Header(header), without_text(swift)
    found = names(c, code) + calls(c, code) + fields(c, code)
    statuses = {name: n for name, n in c.statuses.items() if n != 0}
    found += enumeration(code, "Code", "MLXR_", statuses)
    for enum, prefix in ENUMS.items():
        constants = {name: n for name, n in c.constants.items() if name.startswith(prefix)}
        found += enumeration(code, enum, prefix, constants)
    for struct, of_go in JSON.items():
        keys = set().union(*(go_keys(go, name) for name in of_go))
        lacking = sorted(json_keys(swift, struct) - keys)
        found += [f"JSON fields of {struct}: Go has no {', '.join(lacking)}"] if lacking else []
    return found


class Header:
    """The functions with their number of parameters, constants with their values,
    and structs with their fields."""

    def __init__(self, text):
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        text = re.sub(r"\n(static inline [^;{]*)\{.*?\n\}", r"\n\1;", text, flags=re.DOTALL)
        self.structs = {
            name: re.findall(r"(\w+);", body) for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", text, re.DOTALL)
        }
        types = re.findall(r"^typedef [^{;]*?\(?\*?(\w+)\)?(?:\([^;]*\))?;", text, re.MULTILINE)
        self.types = set(types) | set(self.structs)
        prototypes = re.findall(r"^[a-z][\w *]*?\b(mlxr_\w+)\(([^;]*)\);", text, re.MULTILINE)
        self.functions = {name: 0 if args.strip() == "void" else args.count(",") + 1 for name, args in prototypes}
        self.statuses = {}
        self.constants = dict(re.findall(r"^#define (MLXR_\w+) (\d+)$", text, re.MULTILINE))
        for body in re.findall(r"^enum \{(.*?)\};", text, re.MULTILINE | re.DOTALL):
            values = {name: int(n) for name, n in re.findall(r"(MLXR_\w+) = (\d+)", body)}
            self.constants |= values
            if "MLXR_OK" in values:
                self.statuses = values

    def known(self):
        return {*self.functions, *self.types, *self.constants}


def without_text(swift):
    """Returns Swift without comments and string literals, except for what is in \\(...)."""
    swift = re.sub(r"^\s*//.*$", "", swift, flags=re.MULTILINE)
    return re.sub(
        r'"(?:\\.|[^"\\\n])*"',
        lambda literal: " ".join(re.findall(r"\\(\(.*\))", literal[0])) or '""',
        re.sub(r" // .*$", "", swift, flags=re.MULTILINE),
    )


def names(c, code):
    used = set(re.findall(r"\b(?:mlxr|MLXR)_\w+", code))
    found = [f"{name} is not in mlxr.h" for name in sorted(used - c.known())]
    unused = set(c.functions) - used - UNUSED
    return found + [f"{name} of mlxr.h is not used" for name in sorted(unused)]


def calls(c, code):
    """Compares the arguments of each call, and of each struct that is made."""
    found = []
    for call in re.finditer(r"\b(mlxr_\w+)\(", code):
        name, given = call[1], arguments(code[call.end() :])
        if name in c.functions and len(given) != c.functions[name]:
            found.append(f"{name} takes {c.functions[name]} arguments, is given {len(given)}: {given}")
        if name in c.structs and given:
            labels = [argument.partition(":")[0].strip() for argument in given]
            found += compare(f"fields of {name}", labels, c.structs[name])
    return found


def arguments(text):
    """The arguments of a call, from behind its parenthesis."""
    depth, start, found = 0, 0, []
    for i, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif depth == 0 and char in ",)":
            found.append(text[start:i].strip())
            start = i + 1
            if char == ")":
                return [argument for argument in found if argument]
        elif char in ")]}":
            depth -= 1
    raise ValueError("a call that does not end")


def fields(c, code):
    """Names with underscores are never Swift's own: they must be fields in C."""
    known = {field for struct in c.structs.values() for field in struct}
    used = set(re.findall(r"\.([a-z]+_[a-z_]+)\b", code))
    return [f"no struct of mlxr.h has the field {name}" for name in sorted(used - known)]


def enumeration(code, enum, prefix, constants):
    cases = re.findall(r"case (\w+) = (\d+)", block(code, rf"enum {enum}\b"))
    swift = {name.lower(): int(n) for name, n in cases}
    return compare(f"cases of {enum}", swift, {plain(name, prefix): n for name, n in constants.items()})


def plain(constant, prefix):
    """Returns MLXR_TOO_LARGE as Swift spells it, in lower case: toolarge."""
    return constant.removeprefix(prefix).replace("_", "").lower()


def json_keys(swift, struct):
    body = block(swift, rf"struct {struct}\b")
    for inner in re.findall(r"struct (\w+)", body):
        body = body.replace(block(body, rf"struct {inner}\b"), "")
    if "enum CodingKeys" in body:
        body = block(body, r"enum CodingKeys\b")
        lists = re.findall(r"case ([\w, ]+)$", body, re.MULTILINE)
        named = re.findall(r'case \w+ = "(\w+)"', body)
    else:
        lists, named = re.findall(r"let ([\w, ]+):", body), []
    return {*named, *(name.strip() for names_ in lists for name in names_.split(","))}


def go_keys(go, struct):
    return set(re.findall(r'json:"(\w+)"', block(go, rf"type {struct} struct\b")))


def block(text, opening):
    """The text between the braces behind an opening that is found once."""
    found = list(re.finditer(opening, text))
    if len(found) != 1:
        raise ValueError(f"{opening} is there {len(found)} times")
    start = text.index("{", found[0].end()) + 1
    depth = 1
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[start:i]
    raise ValueError(f"{opening} does not end")


def compare(what, found, expected):
    return [] if found == expected else [f"{what}: found {found}, expected {expected}"]
