"""A sound document, and what is said of it when one place of it is written otherwise."""

from config.loader import check_text

BASE = """\
admin: {}
edge: {}
providers:
  p: {protocol: openai, base_url: http://h}
  q/r: {protocol: openai, base_url: http://h}
  g: {protocol: bedrock, base_url: http://h, api_key: "${KEY}"}
models:
  m: {deployments: [{provider: p}]}
  n: {deployments: [{provider: p}]}
routes:
  auto: {models: [m, n]}
organizations:
  o: {teams: {t: {keys: {k: {key: "sha256:%s"}}}}}
""" % ("0" * 64)


def said(old: str, new: str) -> list[str]:
    """Give the problems of the document with `new` in the place of `old`."""
    assert old in BASE
    text = BASE.replace(old, new, 1)
    environ = {"KEY": "k" * 16, "OAUTH": "sk-ant-oat01-0123456789abcdef"}
    return [str(each) for each in check_text(text, source="f", environ=environ)]
