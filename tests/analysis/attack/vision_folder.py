"""A vision-language model of a few thousand random weights, saved as a user's folder is."""

from pathlib import Path

import torch

WORDS = (
    "Look at the picture . Does it show a dog cat ( as thing , not drawing on something else ) ? Answer with one "
    "word : or"
)
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


def vision_folder(folder: Path, only_yes_and_no: bool = True) -> Path:
    """A Llava. only_yes_and_no: it can say nothing else."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    known = ["[END]", "[UNK]", "<image>", "yes", "no", *dict.fromkeys(WORDS.split())]
    vocabulary = {word: row for row, word in enumerate(known)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="[END]", pad_token="[END]", unk_token="[UNK]",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, patch_size=8, vision_feature_select_strategy="default",
        chat_template=TEMPLATE, num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    # Large random weights: with small ones the answer hardly depends on the picture.
    torch.manual_seed(0)
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                              image_size=16, patch_size=8, initializer_factor=8.0)  # fmt: skip
    text = LlamaConfig(vocab_size=len(known), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                       num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0,
                       eos_token_id=0, pad_token_id=0, initializer_range=0.5)  # fmt: skip
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_id=2))
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = 0
    silent = [row for row in range(len(known)) if known[row] not in ("yes", "no")]
    model.generation_config.suppress_tokens = silent if only_yes_and_no else [0, 1, 2, 3, 4]
    model.save_pretrained(folder)
    return folder
