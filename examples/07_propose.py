"""Which dense model as good as OLMoE serves a chat best on one H100, and what limits it?

`propose` solves the width of every architecture for the quality that is wanted, searches those of
released shapes together with their deployments, and asks all quality laws about the best.
"""

import qsopt

chat = qsopt.Workload(prompt=1024, answer=256, tpot_limit=0.05)
answer = qsopt.propose("olmoe-1b-7b", "1xh100", chat, family="dense")
record = answer.to_dict()
best = max(record["proposals"], key=lambda one: one["metrics"]["tokens_per_s_per_device"])
sizes = best["architecture"]
print(
    f"{best['name']}: {sizes['layers']} layers, hidden {sizes['hidden']:,}, width "
    f"{sizes['width']:,}; {best['metrics']['tokens_per_s_per_device']:,.0f} tokens/s"
)
beside = record["reference"]["metrics"]["tokens_per_s_per_device"]
print(f"the MoE itself: {beside:,.0f} tokens/s in its best deployment")
gains = {name: value for name, value in best["elasticities"].items() if value is not None}
most = max(gains, key=lambda name: abs(gains[name]))
print(f"it answers most to {most}: {gains[most]:+.2f} % for each percent")
for mark in best["marks"]:
    print(f"- {mark}")
