"""Models' settings files, changed in every way that matters: what settings.py asks CrossEncoder about."""

import itertools

import tiny_models

SEED = 20260401
REMOVED = object()  # in a change: the member or file is taken away

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary():
    """Letters of both cases with accents and without, alone and as continuations; CJK runs and single characters."""
    accented = "éèöüåÉÖÅ"
    pieces = LETTERS + LETTERS.upper() + accented
    words = SPECIAL + list(pieces) + ["##" + c for c in pieces] + list("0123456789.,!?[]<>:-")
    words += ["什", "么", "是", "机", "##器", "什么", "学习", "テ", "##ス", "##ト", "<s>", "</s>", "[Q]", "[D]", "hello", "Hello", "WORLD", "world", "[unused1]", "<oov>"]
    return list(dict.fromkeys(words))


VOCAB = {word: n for n, word in enumerate(vocabulary())}


def added(content, index=None, **flags):
    """An entry of tokenizer.json's added_tokens, or without index of added_tokens_decoder."""
    out = {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}
    return out if index is None else {"id": index, **out}


def template(single, pair):
    """A TemplateProcessing of strings such as "[CLS]:0 $A:0 [SEP]:0"."""
    def pieces(text):
        for piece in text.split():
            name, kind = piece.rsplit(":", 1)
            if name.startswith("$"):
                yield {"Sequence": {"id": name[1:], "type_id": int(kind)}}
            else:
                yield {"SpecialToken": {"id": name, "type_id": int(kind)}}
    names = {p.rsplit(":", 1)[0] for p in (single + " " + pair).split() if not p.startswith("$")}
    return {
        "type": "TemplateProcessing", "single": list(pieces(single)), "pair": list(pieces(pair)),
        "special_tokens": {n: {"id": n, "ids": [VOCAB[n]], "tokens": [n]} for n in sorted(names)}, "whole": True,
    }


BERT_TEMPLATE = template("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1")
BERT_TEMPLATE.pop("whole")

NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}

BASE = {
    "config.json": tiny_models.config(16, 2, 1, vocab_size=len(VOCAB) + 8, max_position_embeddings=32),
    "tokenizer.json": {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(token, n) for n, token in enumerate(SPECIAL)],
        "normalizer": NORMALIZER, "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": BERT_TEMPLATE, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": VOCAB},
    },
    # Without pad_token the generic class cannot make a batch.
    "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "model_max_length": 32, "do_lower_case": True, "pad_token": "[PAD]"},
}

PAIRS = [
    ("Hello WORLD", "Öde Éclairs, Å"),
    ("什么 是", "机器学习 什么 テスト a机b"),
    ("a b c d e f g h i j k l m n o p q r s t", "z y x w v u t s r q p o n m l k j i h g f e d c b a"),
    ("[CLS] a [NEW] b<s>", "x[NEW]y [SEP] [Q] <oov> new"),
    ("ab", ""),
    ("ab", "abcdefgh abcde \u0000x\u200b y\u2028z"),
]

CLASSES = ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", "NoSuchTokenizer", "DistilBertTokenizer", "ElectraTokenizerFast", "PreTrainedTokenizer", REMOVED]
SWITCHES = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}


def name_of(value):
    return "absent" if value is REMOVED else str(value).lower() if value is None or isinstance(value, bool) else str(value)


def config(**changes):
    return {"tokenizer_config.json": changes}


def generic(**changes):
    """The class that takes tokenizer.json as it is; with type ids, as transformers 4 saved it."""
    return config(tokenizer_class="PreTrainedTokenizerFast", model_input_names=["input_ids", "token_type_ids", "attention_mask"], **changes)


def switches():
    """Every value of each switch against every value of tokenizer.json's normalizer, by class."""
    for key, field in SWITCHES.items():
        inner = (True, False, None) if field == "strip_accents" else (True, False)
        for value, own in itertools.product((REMOVED, None, True, False), inner):
            change = {"tokenizer.json": {"normalizer": {field: own}}}
            yield f"{key} {name_of(value)}, {field} {name_of(own)}", {**config(**{key: value}), **change}
            yield f"{key} {name_of(value)}, {field} {name_of(own)}, generic", {**generic(**{key: value}), **change}
    for lower, strip in itertools.product((True, False), (True, False, None)):
        yield f"lower {name_of(lower)}, strip {name_of(strip)}", config(do_lower_case=lower, strip_accents=strip)
        change = {"tokenizer.json": {"normalizer": {"lowercase": lower, "strip_accents": strip}}}
        yield f"lower {name_of(lower)}, strip {name_of(strip)}, generic", {**generic(), **change}
    yield "clean_text false", {"tokenizer.json": {"normalizer": {"clean_text": False}}}
    yield "clean_text false, generic", {**generic(), "tokenizer.json": {"normalizer": {"clean_text": False}}}


def classes():
    """Tokenizer classes that read tokenizer.json as it is or build it again, and the class in config.json."""
    odd = {"tokenizer.json": {"normalizer": {"lowercase": False}, "post_processor": template("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0")}}
    for cls in CLASSES:
        yield f"class {name_of(cls)}", config(tokenizer_class=cls)
        yield f"class {name_of(cls)}, odd tokenizer.json", {**config(tokenizer_class=cls, do_lower_case=REMOVED), **odd}
    for cls in ("PreTrainedTokenizerFast", "BertTokenizer"):
        yield f"class {cls} in config.json", {**config(tokenizer_class=REMOVED, do_lower_case=REMOVED), **odd, "config.json": {"tokenizer_class": cls}}
        yield f"class {cls} in config.json, null in tokenizer_config.json", {**config(tokenizer_class=None), **odd, "config.json": {"tokenizer_class": cls}}
    yield "both classes", {**config(tokenizer_class="BertTokenizer"), **odd, "config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}}
    yield "no tokenizer_config.json", {"tokenizer_config.json": REMOVED, **odd}
    yield "class of another family", config(tokenizer_class="RobertaTokenizer")
    model = {"unk_token": "[Q]", "max_input_chars_per_word": 5}
    yield "model of tokenizer.json", {"tokenizer.json": {"model": model}}
    yield "model of tokenizer.json, generic", {**generic(), "tokenizer.json": {"model": model}}
    yield "continuing prefix, generic", {**generic(), "tokenizer.json": {"model": {"continuing_subword_prefix": "@@"}}}
    yield "continuing prefix", {"tokenizer.json": {"model": {"continuing_subword_prefix": "@@"}}}


def templates():
    """Post-processors, which only the generic class takes from tokenizer.json."""
    shapes = {
        "document at type id 0": ("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $A:0 [SEP]:0 $B:0 [SEP]:0"),
        "other special tokens": ("<s>:0 $A:0 </s>:0", "<s>:0 $A:0 </s>:0 </s>:1 $B:1 </s>:1"),
        "query at type id 1": ("[CLS]:0 $A:1 [SEP]:0", "[CLS]:0 $A:1 [SEP]:1 $B:0 [SEP]:0"),
        "separators of other types": ("[CLS]:0 $A:0 [SEP]:0", "[CLS]:1 $A:0 [SEP]:1 $B:1 [SEP]:0"),
        "markers": ("[CLS]:0 [Q]:0 $A:0 [SEP]:0", "[CLS]:0 [Q]:0 $A:0 [SEP]:0 [D]:1 $B:1 [SEP]:1"),
        "no special tokens": ("$A:0", "$A:0 $B:1"),
        "document first": ("[CLS]:0 $A:0 [SEP]:0", "[CLS]:0 $B:0 [SEP]:0 $A:1 [SEP]:1"),
    }
    for name, shape in shapes.items():
        yield f"template: {name}", {"tokenizer.json": {"post_processor": template(*shape)}}
        yield f"template: {name}, generic", {**generic(), "tokenizer.json": {"post_processor": template(*shape)}}
    bert = {"type": "BertProcessing", "sep": ["</s>", VOCAB["</s>"]], "cls": ["<s>", VOCAB["<s>"]], "whole": True}
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", VOCAB["</s>"]], "cls": ["<s>", VOCAB["<s>"]], "trim_offsets": True, "add_prefix_space": True, "whole": True}
    for name, value in {"BertProcessing": bert, "RobertaProcessing": roberta, "null": None}.items():
        yield f"post-processor {name}", {"tokenizer.json": {"post_processor": value}}
        yield f"post-processor {name}, generic", {**generic(), "tokenizer.json": {"post_processor": value}}


def types():
    for names in (["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"], REMOVED):
        text = "absent" if names is REMOVED else f"{len(names)} of them"
        for cls in ("BertTokenizer", "PreTrainedTokenizerFast", "DistilBertTokenizer"):
            yield f"model_input_names {text}, {cls}", config(model_input_names=names, tokenizer_class=cls)


def truncation(direction, length=16, strategy="LongestFirst"):
    return {"truncation": {"direction": direction, "max_length": length, "strategy": strategy, "stride": 0, "whole": True}}


def lengths():
    for side in ("left", "right"):
        yield f"truncation_side {side}", config(truncation_side=side)
        for direction in ("Left", "Right"):
            yield f"truncation_side {side}, direction {direction}", {**config(truncation_side=side), "tokenizer.json": truncation(direction)}
            yield f"truncation_side {side}, direction {direction}, generic", {**generic(truncation_side=side), "tokenizer.json": truncation(direction)}
    for direction in ("Left", "Right"):
        yield f"direction {direction}", {"tokenizer.json": truncation(direction)}
        yield f"direction {direction}, generic", {**generic(), "tokenizer.json": truncation(direction)}
    yield "strategy OnlySecond", {"tokenizer.json": truncation("Right", strategy="OnlySecond")}
    yield "truncation_strategy", config(truncation_strategy="only_second", max_length=8, stride=2)
    yield "truncation_side up", config(truncation_side="up")
    yield "truncation_side null", config(truncation_side=None)
    yield "padding", {**config(padding_side="left"), "tokenizer.json": {"padding": {"strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]", "whole": True}}}
    for value in (REMOVED, None, 16, 500, 1e30):
        yield f"model_max_length {name_of(value)}", config(model_max_length=value)
    yield "max_len", config(model_max_length=REMOVED, max_len=16)
    yield "max_len beside model_max_length", config(max_len=16)


def tokens():
    """Added and special tokens, by file: content beyond the vocabulary, and flags."""
    n = len(VOCAB)
    own = BASE["tokenizer.json"]["added_tokens"]
    new = {"tokenizer.json": {"added_tokens": own + [added("[NEW]", n, special=False)]}}
    yield "added token", new
    yield "added token, generic", {**generic(), **new}
    yield "added token, normalized", {"tokenizer.json": {"added_tokens": own + [added("new", n, special=False, normalized=True)]}}
    yield "added token, stripping", {"tokenizer.json": {"added_tokens": own + [added("[NEW]", n, special=False, lstrip=True, rstrip=True)]}}
    yield "added token, single word", {"tokenizer.json": {"added_tokens": own + [added("[NEW]", n, special=False, single_word=True)]}}
    decoder = {str(i): added(t) for i, t in enumerate(SPECIAL)}
    for name, base in {"": {}, ", generic": generic()["tokenizer_config.json"]}.items():
        yield f"added_tokens_decoder{name}", config(**base, added_tokens_decoder={**decoder, str(n): added("[NEW]", special=False)})
        yield f"added_tokens_decoder beside added_tokens{name}", {**config(**base, added_tokens_decoder={**decoder, str(n): added("<oov>", special=False)}), **new}
        yield f"added_tokens_decoder without an added token{name}", {**config(**base, added_tokens_decoder=decoder), **new}
        yield f"added_tokens_decoder with other flags{name}", {**config(**base, added_tokens_decoder={**decoder, str(n): added("[NEW]", special=False, lstrip=True, rstrip=True)}), **new}
        yield f"empty added_tokens_decoder{name}", {**config(**base, added_tokens_decoder={}), **new}
        yield f"cls and sep tokens{name}", config(**base, cls_token="<s>", sep_token="</s>")
        yield f"cls token beyond the vocabulary{name}", config(**base, cls_token="[NEW]")
        yield f"unk token{name}", config(**base, unk_token="[Q]")
        yield f"bos token{name}", config(**base, bos_token="<s>", eos_token="</s>")
        yield f"bos token as an object{name}", config(**base, bos_token={"__type": "AddedToken", **added("<s>", lstrip=True)})
        yield f"bos token beyond the vocabulary{name}", config(**base, bos_token="[NEW]")
        yield f"extra tokens{name}", config(**base, additional_special_tokens=["[NEW]", "<oov>"])
        yield f"extra tokens by the new name{name}", config(**base, extra_special_tokens=["<oov>"])
        yield f"extra tokens by name{name}", config(**base, extra_special_tokens={"image_token": "<oov>"})
        yield f"token by another name{name}", config(**base, image_token="<oov>")
        yield f"special_tokens_map.json{name}", {**config(**base), "special_tokens_map.json": {"cls_token": "<s>", "sep_token": {**added("</s>")}, "unk_token": "[UNK]"}}
        yield f"special_tokens_map.json against tokenizer_config.json{name}", {**config(**base, cls_token="[Q]"), "special_tokens_map.json": {"cls_token": "<s>"}}
        yield f"special_tokens_map.json beside added_tokens_decoder{name}", {**config(**base, added_tokens_decoder=decoder), "special_tokens_map.json": {"cls_token": "<s>"}}
        yield f"added_tokens.json{name}", {**config(**base), "added_tokens.json": {"[NEW]": n}}
        yield f"added_tokens.json beside added_tokens_decoder{name}", {**config(**base, added_tokens_decoder=decoder), "added_tokens.json": {"[NEW]": n}}
        yield f"split_special_tokens{name}", config(**base, split_special_tokens=True)
        yield f"add_bos_token{name}", config(**base, add_bos_token=True, bos_token="<s>")
        yield f"add_prefix_space{name}", config(**base, add_prefix_space=True, clean_up_tokenization_spaces=True, never_split=["Hello"], do_basic_tokenize=False)
    gap = {"tokenizer.json": {"added_tokens": own + [added("[NEW]", n + 3, special=False)]}}
    yield "added token with a gap", gap
    yield "added token with a gap, generic", {**generic(), **gap}
    moved = {"tokenizer.json": {"added_tokens": [added(t, i) for i, t in enumerate(SPECIAL)][:4] + [added("[MASK]", 9)]}}
    yield "added token with another id than the vocabulary's", moved


TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
SENTENCE = {"transformer_task": "sequence-classification", "module_output_name": "scores", "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}}


def saved(own=None, sentence=None, **files):
    """As CrossEncoder.save_pretrained leaves a model."""
    return {
        "modules.json": [{"idx": 0, "name": "0", "path": "", "type": TRANSFORMER}],
        "sentence_bert_config.json": {**SENTENCE, **(sentence or {})},
        "config_sentence_transformers.json": {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None, **(own or {})},
        **files,
    }


def sentence_transformers_files():
    prompt = {"prompts": {"query": "ab: ", "other": "zz"}, "default_prompt_name": "query"}
    tanh = {"activation_fn": "torch.nn.modules.activation.Tanh"}
    yield "saved", saved()
    yield "prompt", saved(prompt)
    yield "prompt without a space", saved({"prompts": {"q": "hel"}, "default_prompt_name": "q"})
    yield "prompts without a default", saved({"prompts": {"query": "ab: "}})
    yield "prompt null", saved({"prompts": {"query": None}, "default_prompt_name": "query"})
    yield "prompt that is not there", saved({"prompts": {}, "default_prompt_name": "query"})
    yield "prompt without modules.json", {"config_sentence_transformers.json": {"model_type": "CrossEncoder", **prompt, **tanh}}
    yield "prompt of an encoder", {**saved(), "config_sentence_transformers.json": {**prompt, **tanh}}
    for length in (12, 500, None):
        yield f"max_seq_length {name_of(length)}", saved(sentence={"max_seq_length": length})
        yield f"max_seq_length {name_of(length)} beside model_max_length 16", saved(sentence={"max_seq_length": length}, **config(model_max_length=16))
    yield "max_seq_length without modules.json", {"sentence_bert_config.json": {"max_seq_length": 12}}
    yield "max_seq_length of a legacy file", {**saved(), "sentence_bert_config.json": REMOVED, "sentence_roberta_config.json": {**SENTENCE, "max_seq_length": 12}}
    yield "no sentence_bert_config.json", {**saved(), "sentence_bert_config.json": REMOVED}
    yield "do_lower_case of sentence_bert_config.json", saved(sentence={"do_lower_case": True}, **config(do_lower_case=False))
    yield "do_lower_case of sentence_bert_config.json, accents stripped", saved(sentence={"do_lower_case": True}, **config(do_lower_case=False, strip_accents=True))
    for key in ("tokenizer_args", "processor_kwargs"):
        yield f"{key}", saved(sentence={key: {"model_max_length": 14, "truncation_side": "left", "do_lower_case": False}})
    yield "max_seq_length beside tokenizer_args", saved(sentence={"max_seq_length": 12, "tokenizer_args": {"model_max_length": 14}})
    yield "processing_kwargs", saved(sentence={"processing_kwargs": {"text": {"max_length": 12}}})
    yield "processing_kwargs, truncation", saved(sentence={"processing_kwargs": {"text": {"truncation": "only_second"}}})
    yield "query_length", saved(sentence={"query_length": 8, "document_length": 8, "unpad_inputs": False})
    yield "model_args", saved(sentence={"model_args": {"attn_implementation": "eager"}})
    yield "config_args", saved(sentence={"config_args": {"num_labels": 1}})
    yield "transformer_task absent", saved(sentence={"transformer_task": "feature-extraction"})
    yield "unknown key of sentence_bert_config.json", saved(sentence={"pooling": "mean"})
    yield "second module", {**saved(), "modules.json": [{"idx": 0, "name": "0", "path": "", "type": TRANSFORMER}, {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.base.modules.dense.Dense"}]}
    yield "module by its old name", {**saved(), "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]}
    yield "chat template", config(chat_template="{% for m in messages %}{{ m['content'] }} {% endfor %}")
    yield "chat template of a saved model", saved(**config(chat_template="{% for m in messages %}{{ m['content'] }} {% endfor %}"))


TORCH = "torch.nn.modules.activation."
ACTIVATIONS = {
    "Sigmoid": TORCH + "Sigmoid", "Identity": "torch.nn.modules.linear.Identity", "Tanh": TORCH + "Tanh", "ReLU": TORCH + "ReLU",
    "Softmax": TORCH + "Softmax", "LogSoftmax": TORCH + "LogSoftmax", "LogSigmoid": TORCH + "LogSigmoid", "Softplus": TORCH + "Softplus", "Softsign": TORCH + "Softsign",
    "Hardsigmoid": TORCH + "Hardsigmoid", "GELU": TORCH + "GELU", "short Tanh": "torch.nn.Tanh", "short Sigmoid": "torch.nn.Sigmoid",
    "short Identity": "torch.nn.Identity", "custom": "my_module.MyActivation", "custom inside transformers": "transformers.activations.GELUActivation",
    "null": None, "no such class": TORCH + "NoSuch", "function": "torch.nn.functional.sigmoid", "empty": "",
}


def activations():
    three = {"id2label": {str(n): f"L{n}" for n in range(3)}, "label2id": REMOVED}
    two = {"id2label": {"0": "no", "1": "yes"}, "label2id": REMOVED}
    for name, value in ACTIVATIONS.items():
        yield f"activation {name}", {"config.json": {"sentence_transformers": {"activation_fn": value}}}
        yield f"activation {name}, three labels", {"config.json": {"sentence_transformers": {"activation_fn": value}, **three}}
        yield f"activation {name} of a saved model", saved({"activation_fn": value})
    yield "two labels", {"config.json": two}
    yield "three labels", {"config.json": three}
    yield "old key", {"config.json": {"sbert_ce_default_activation_function": TORCH + "Tanh"}}
    yield "both keys", {"config.json": {"sbert_ce_default_activation_function": TORCH + "Tanh", "sentence_transformers": {"activation_fn": TORCH + "ReLU"}}}
    yield "both files", saved({"activation_fn": TORCH + "Tanh"}, **{"config.json": {"sentence_transformers": {"activation_fn": TORCH + "ReLU"}}})
    yield "custom before config.json's", saved({"activation_fn": "my.Own"}, **{"config.json": {"sentence_transformers": {"activation_fn": TORCH + "ReLU"}}})


def cases():
    """{name: {file: changes}}; the first is the base model."""
    out = {"base": {}}
    for made in (switches, classes, templates, types, lengths, tokens, sentence_transformers_files, activations):
        for name, changes in made():
            if name in out:
                raise ValueError(f"two cases {name!r}")
            out[name] = changes
    return out
