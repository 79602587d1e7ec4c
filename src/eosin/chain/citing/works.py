"""The works that Eosin's methods are from, as data. Keys are arXiv numbers; the year of a number is in it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WORKS", "Work"]


@dataclass(frozen=True)
class Work:
    """One work.

    Attributes:
        key: of the BibTeX entry. authors: the first, and others; a work whose authors were not seen names itself.
        arxiv: its number there; "" for software.
    """

    key: str
    title: str
    authors: str
    arxiv: str = ""
    url: str = ""

    def bibtex(self) -> str:
        """The entry."""
        fields = {"title": f"{{{self.title}}}", "author": self.authors}
        if self.arxiv:
            fields |= {"year": f"20{self.arxiv[:2]}", "eprint": self.arxiv, "archiveprefix": "arXiv",
                       "url": f"https://arxiv.org/abs/{self.arxiv}"}  # fmt: skip
        elif self.url:
            fields["url"] = self.url
        lines = ",\n".join(f"  {name:<13} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{lines}\n}}"


_ALL = (
    Work("pathvlm-r1", "PathVLM-R1", "{PathVLM-R1 authors}", "2504.09258"),
    Work("patho-r1", "Patho-R1", "{Patho-R1 authors}", "2505.11404"),
    Work("pathreasoner-r1", "PathReasoner-R1", "{PathReasoner-R1 authors}", "2601.21617"),
    Work("grpo", "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
         "Shao, Zhihong and others", "2402.03300"),
    Work("dapo", "DAPO: An Open-Source LLM Reinforcement Learning System at Scale", "Yu, Qiying and others",
         "2503.14476"),
    Work("dr_grpo", "Understanding R1-Zero-Like Training: A Critical Perspective", "Liu, Zichen and others",
         "2503.20783"),
    Work("gspo", "Group Sequence Policy Optimization", "Zheng, Chujie and others", "2507.18071"),
    Work("raft", "RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment", "Dong, Hanze and others",
         "2304.06767"),
    Work("lora", "LoRA: Low-Rank Adaptation of Large Language Models", "Hu, Edward J. and others", "2106.09685"),
    Work("longnet", "LongNet: Scaling Transformers to 1,000,000,000 Tokens", "Ding, Jiayu and others", "2307.02486"),
    Work("qwen2.5-vl", "Qwen2.5-VL Technical Report", "Bai, Shuai and others", "2502.13923"),
    Work("llava-1.5", "Improved Baselines with Visual Instruction Tuning", "Liu, Haotian and others", "2310.03744"),
    Work("flamingo", "Flamingo: a Visual Language Model for Few-Shot Learning", "Alayrac, Jean-Baptiste and others",
         "2204.14198"),
    Work("clip", "Learning Transferable Visual Models From Natural Language Supervision", "Radford, Alec and others",
         "2103.00020"),
    Work("siglip", "Sigmoid Loss for Language Image Pre-Training", "Zhai, Xiaohua and others", "2303.15343"),
    Work("lit", "LiT: Zero-Shot Transfer with Locked-image text Tuning", "Zhai, Xiaohua and others", "2111.07991"),
    Work("transformers", "HuggingFace's Transformers: State-of-the-art Natural Language Processing",
         "Wolf, Thomas and others", "1910.03771"),
    Work("trl", "TRL: Transformer Reinforcement Learning", "{The TRL developers}", url="https://github.com/huggingface/trl"),
)  # fmt: skip
WORKS = {work.key: work for work in _ALL}
