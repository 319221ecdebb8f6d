"""Makes the models of rows.ENCODERS in WORK, with random weights, in each peer's format: encoders.py WORK.

The tokenizers are trained on the benchmark's own texts. They are small; the
embeddings have the real size.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
sys.dont_write_bytecode = True

import export
import pairs
import sentence_transformers
import subjects
import tokenizers
import torch
import transformers
from sentence_transformers.sentence_transformer import modules

SEED = 20261130
TOKENS = 8000  # of a tokenizer

ETTIN = {
    "vocab_size": 50368,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "max_position_embeddings": 7999,
    "global_attn_every_n_layers": 3,
    "local_attention": 128,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 160000.0,
}
MMINILM = {
    "vocab_size": 250002,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "num_labels": 1,
}


def main():
    work = pathlib.Path(sys.argv[1]).resolve()
    texts = [text for pair in pairs.read(subjects.ROOT) for text in pair]
    make(work / "mminilm-l12", mminilm, unigram(texts))
    for folder, maximum in (("ettin-17m", 512), ("ettin-17m-2048", 2048)):
        tokenizer = byte_pairs(texts)
        tokenizer.model_max_length = maximum
        make(work / folder, ettin, tokenizer)


def make(folder, build, tokenizer):
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        model = build(scratch, tokenizer)
        randomise(model)
        model.save_pretrained(str(folder), create_model_card=False)
    exported = sentence_transformers.CrossEncoder(str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"}).eval()
    export.write(Scores(exported), ("input_ids", "attention_mask"), exported.config, folder)
    print(f"peers: made {folder}", file=sys.stderr)


class Scores(torch.nn.Module):
    """The logits of a CrossEncoder, which takes and gives a dict."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["scores"]


def mminilm(scratch, tokenizer):
    config = transformers.XLMRobertaConfig(**MMINILM, **special_ids(tokenizer))
    transformers.XLMRobertaForSequenceClassification(config).save_pretrained(scratch)
    return sentence_transformers.CrossEncoder(scratch, device="cpu", activation_fn=torch.nn.Identity())


def ettin(scratch, tokenizer):
    """The encoder with the modules of ettin-reranker-17m."""
    config = transformers.ModernBertConfig(**ETTIN, **special_ids(tokenizer))
    transformers.ModernBertModel(config).save_pretrained(scratch)
    size = config.hidden_size
    stack = [
        modules.Transformer(scratch, transformer_task="feature-extraction"),
        modules.Pooling(embedding_dimension=size, pooling_mode="cls"),
        modules.Dense(size, size, bias=False, activation_function=torch.nn.GELU()),
        modules.LayerNorm(dimension=size),
        modules.Dense(size, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    return sentence_transformers.CrossEncoder(modules=stack, device="cpu", activation_fn=torch.nn.Identity())


def special_ids(tokenizer):
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }


def randomise(model):
    """Gives model random weights with which logits depend on the text, as in a trained model.

    The initial weights of transformers make almost equal logits.
    """
    random = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for part in model.modules():
            for parameter in part.parameters(recurse=False):
                parameter.normal_(0, parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1, generator=random)
            if isinstance(part, torch.nn.LayerNorm):
                part.weight += 1


def unigram(texts):
    """XLM-RoBERTa's tokenizer with a vocabulary of texts."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = transformers.XLMRobertaTokenizer()
    trained = tokenizers.Tokenizer(tokenizers.models.Unigram())
    trained.pre_tokenizer = made.backend_tokenizer.pre_tokenizer
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=TOKENS, special_tokens=special, unk_token="<unk>", show_progress=False)
    trained.train_from_iterator(texts, trainer)
    return transformers.XLMRobertaTokenizer(vocab=vocabulary(trained), model_max_length=512)


def vocabulary(tokenizer):
    """The [token, score] of a Unigram tokenizer."""
    return [tuple(entry) for entry in json.loads(tokenizer.to_str())["model"]["vocab"]]


def byte_pairs(texts):
    """ModernBERT's tokenizer with a vocabulary of texts."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.normalizer = tokenizers.normalizers.NFC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=TOKENS, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    ends = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name.strip('[]').lower()}_token": name for name in special},
    )


if __name__ == "__main__":
    main()
