"""From a problem's text to the token ids that a model is asked with."""

from thalweg.data.chat import PLAIN_TEMPLATE
from thalweg.data.tokenizer import Tokenizer
from thalweg.errors import RecipeError

__all__ = ["check_template", "prompt_ids"]


def prompt_ids(tokenizer: Tokenizer, prompt: str, template: str | None = None) -> list[int]:
    """Return the ids of a prompt as `build_pairs` writes it before an answer.

    Args:
        tokenizer: Its chat template is used if it has one and no template is given.
        prompt: The problem's text; an empty one still gives what stands around it.
        template: `{prompt}` before `{answer}`; what stands behind the answer is left out.

    Example:
        >>> from thalweg.data.tokenizer import byte_tokenizer
        >>> prompt_ids(byte_tokenizer(), "1+1=", "{prompt}{answer}")
        [256, 49, 43, 49, 61]
    """
    if template is None and tokenizer.chat_template is not None:
        text = tokenizer.chat([{"role": "user", "content": prompt}], ask=True)
        return tokenizer.encode(text, special=True)
    before = (template or PLAIN_TEMPLATE).split("{answer}")[0]
    return [tokenizer.end_id, *tokenizer.encode(before.replace("{prompt}", prompt))]


def check_template(template: str | None) -> None:
    """Refuse a template without a place for the prompt and one for the answer behind it.

    Raises:
        RecipeError: It has none.
    """
    if template is None:
        return
    before, answer, _ = template.partition("{answer}")
    if not answer or "{prompt}" not in before:
        raise RecipeError(
            f"template {template!r}",
            expected="{prompt} and behind it {answer}",
            where="Rollouts.template",
            write=f"template={PLAIN_TEMPLATE!r}",
        )
