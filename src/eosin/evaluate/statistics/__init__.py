"""Where an interval is computed: metrics, intervals clustered by case, paired comparisons."""
