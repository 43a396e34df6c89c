"""From logits to tokens: options, sampling and the loop. It sees ids and logits only."""
