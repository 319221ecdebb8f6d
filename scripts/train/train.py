"""Trains the adapter: listwise cross-entropy, with the trunk's own cosines as a second teacher.

The rate rises, stays, and falls to zero over the last steps. A checkpoint holds all that a run needs to go on from.

Started by torchrun, each process takes its own batches and the weights are averaged every SYNC steps. On a
machine with other work that is faster than more threads, which wait for each other within every step.
"""

import itertools
import json
import math
import os
import random
import re
import time

import peft
import prepare
import sources
import tokenizers
import torch
import torch.distributed as dist
import torch.nn.functional as F
import transformers

TOKENS = 80
# Tokens of some groups, so that the model also knows longer texts.
LONG = 208
LONG_SHARE = 0.3
GROUPS = 8
POOL = 80  # batches are alike in length within so many groups
RATE = 5e-4
WARMUP = 40
TEMPERATURE = 0.05
DISTIL = 0.4
CALIBRATE = 0.1
SAVE = 100
# Layers from below whose part of the adapter stays as it is: a sixth of the time for little.
FROZEN = 2
SYNC = 20
RANK = int(os.environ.get("RANK", "0"))
WORLD = int(os.environ.get("WORLD_SIZE", "1"))


def encode_groups(path, base, long_share=0.0):
    """The tokens of every pair: [(ids, type ids)] a group, and the cosines, or zeros where there are none."""
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    draw = random.Random(sources.SEED)
    groups = []
    with open(path, encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            tokenizer.enable_truncation(LONG if draw.random() < long_share else TOKENS, strategy="longest_first")
            pairs = tokenizer.encode_batch([(row["question"], d) for d in row["documents"]])
            groups.append(([(e.ids, e.type_ids) for e in pairs], row.get("cosines", [0.0] * len(pairs))))
    return groups


def batches(groups):
    """Endless batches of group numbers, alike in length, in an order that the seed fixes."""
    draw = random.Random(sources.SEED)
    while True:
        order = list(range(len(groups)))
        draw.shuffle(order)
        for start in range(0, len(order) - POOL + 1, POOL):
            pool = sorted(order[start : start + POOL], key=lambda n: sum(len(ids) for ids, _ in groups[n][0]))
            made = [pool[n : n + GROUPS] for n in range(0, POOL, GROUPS)]
            draw.shuffle(made)
            yield from made


def pad(pairs):
    width = max(len(ids) for ids, _ in pairs)
    return {
        "input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in pairs]),
        "token_type_ids": torch.tensor([types + [0] * (width - len(types)) for _, types in pairs]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in pairs]),
    }


def logits(model, pairs, parts=2):
    """One logit a pair; pairs alike in length are computed together."""
    order = sorted(range(len(pairs)), key=lambda n: len(pairs[n][0]))
    size = -(-len(order) // parts)
    found = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for start in range(0, len(order), size):
            inputs = pad([pairs[n] for n in order[start : start + size]])
            found.append(model(**inputs).logits[:, 0].float())
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(found)[back]


def loss_of(scores, cosines):
    """scores and cosines: a row a group, the positive first."""
    log = F.log_softmax(scores, dim=1)
    teacher = F.softmax(cosines / TEMPERATURE, dim=1)
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    weights = torch.where(labels > 0, float(scores.shape[1] - 1), 1.0)
    calibration = F.binary_cross_entropy_with_logits(scores, labels, weights) / 2
    taught = (cosines != 0).any(dim=1)
    distance = F.kl_div(log, teacher, reduction="none").sum(1) * taught
    return -log[:, 0].mean() + DISTIL * distance.mean() + CALIBRATE * calibration, log


def rate(step, steps, fall):
    """The rate of a step; it falls to zero over the last steps, fall of them."""
    return RATE * min(1.0, (step + 1) / WARMUP, (steps - step) / max(1, fall))


def start(base, adapter):
    """The trunk with the adapter on it, ready to train on."""
    model = transformers.BertForSequenceClassification.from_pretrained(
        base, num_labels=1, attn_implementation="eager", dtype="float32", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model = peft.PeftModel.from_pretrained(model, adapter, is_trainable=True)
    for name, parameter in model.named_parameters():
        if re.search(rf"layer\.[0-{FROZEN - 1}]\.", name):
            parameter.requires_grad = False
    return model


@torch.no_grad()
def average(parameters):
    """Gives every process the mean of all processes' weights."""
    if WORLD > 1:
        flat = torch.cat([p.reshape(-1) for p in parameters])
        dist.all_reduce(flat)
        start = 0
        for p in parameters:
            p.copy_((flat[start : start + p.numel()] / WORLD).view_as(p))
            start += p.numel()


@torch.no_grad()
def unweight(model):
    """Lowers the bias by what the positives' weight in the loss added to the logits."""
    for name, parameter in model.named_parameters():
        if name.endswith("classifier.modules_to_save.default.bias"):
            parameter -= math.log(prepare.NEGATIVES)


def train(base, adapter, groups_path, out, steps, fall, long_share=0.0, resume=False, after=None):
    """Writes the adapter to out; after(model, step) is called at every checkpoint."""
    if WORLD > 1:
        dist.init_process_group("gloo")
    torch.manual_seed(sources.SEED)
    groups = encode_groups(groups_path, base, long_share)
    model = start(base, out if resume else adapter)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    first = 0
    if resume:
        state = torch.load(out / f"state{RANK}.pt")
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    order = itertools.islice(batches(groups), RANK, None, WORLD)
    for _ in range(first):
        next(order)
    begun, begun_cpu = time.time(), time.process_time()
    sums, pairs_done = [0.0, 0.0, 0], 0
    step = first
    while step < steps:
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, fall)
        chosen = [groups[n] for n in next(order)]
        pairs = [p for members, _ in chosen for p in members]
        scores = logits(model, pairs).view(len(chosen), -1)
        loss, log = loss_of(scores, torch.tensor([c for _, c in chosen]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        pairs_done += len(pairs)
        sums = [sums[0] + loss.item(), sums[1] + (log.argmax(1) == 0).float().mean().item(), sums[2] + 1]
        if step % SYNC == 0 or step == steps:
            average(parameters)
            speed = pairs_done / (time.time() - begun)
            work = pairs_done / (time.process_time() - begun_cpu)
            print(
                f"step {step}/{steps} loss {sums[0] / sums[2]:.3f} top-1 {sums[1] / sums[2]:.3f} {speed:.1f} pairs/s, {work:.1f} a CPU second",
                flush=True,
            )
            sums = [0.0, 0.0, 0]
        if step == steps and fall:
            unweight(model)
        if step % SAVE == 0 or step == steps:
            if RANK == 0:
                model.save_pretrained(out)
            torch.save({"optimizer": optimizer.state_dict(), "step": step}, out / f"state{RANK}.pt")
            if after:
                after(model, step)
    return model
