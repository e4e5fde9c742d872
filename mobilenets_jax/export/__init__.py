"""Networks for phones: TFLite files, float and quantized, and what LiteRT makes of them."""
