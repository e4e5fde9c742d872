"""Networks for phones: TFLite files, float and quantized, and their results in LiteRT."""
