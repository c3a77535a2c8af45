// What the coder of directories has seen before it begins: names and attributes as they are usual in dumps of gradients,
// in the form that directories have. SPEC.md has the same text. A change of it is a change of the format.
#include "formats/wire/mixing_coder.hpp"

namespace jsq::wire {

std::string_view directory_primer() {
  static constexpr char text[] =
    "Trained on 50,000 images of 10 classes (photographs and digits, 32x32x3) with random crops. Gradients of the"
    " loss by layer and step, learning rate 0.1, batch size 128, float32.\000\000\001\030x\001\013weights.npz\003"
    "\200transformer.h.0.attn.c_attn.bias transformer.h.0.attn.c_attn.weight transformer.h.0.attn.c_proj.bias tra"
    "nsformer.h.0.ln_1.bias transformer.h.0.ln_1.weight transformer.h.0.mlp.c_fc.bias transformer.h.0.mlp.c_proj."
    "weight transformer.ln_f.weight transformer.wpe.weight transformer.wte.weight model.layers.0.self_attn.q_proj"
    ".weight model.layers.0.self_attn.k_proj.weight model.layers.0.self_attn.v_proj.weight model.layers.0.self_at"
    "tn.o_proj.weight model.layers.0.mlp.gate_proj.weight model.layers.0.mlp.up_proj.weight model.layers.0.mlp.do"
    "wn_proj.weight model.layers.0.input_layernorm.weight model.layers.0.post_attention_layernorm.weight model.no"
    "rm.weight model.embed_tokens.weight lm_head.weight encoder.layer.0.attention.self.query.weight encoder.layer"
    ".0.attention.output.dense.bias encoder.layer.0.attention.output.LayerNorm.weight encoder.layer.0.intermediat"
    "e.dense.bias embeddings.word_embeddings.weight classifier.weight rnn.weight_hh_l0 rnn.weight_ih_l0 rnn.bias_"
    "hh_l0 decoder.weight features.0.weight features.0.bias\000\000\001\030x\001\014gradients.h5\003\371\001\000"
    "\001\000\000x\020\005\012batch_size\027\000\200\000\000\000\000\000\000\000\007dataset<\000\011CIFAR-10\005d"
    "type<\000\010float32\005epoch\027\000\012\000\000\000\000\000\000\000\011framework<\000\010pytorch\013global"
    "_step\027\000\350\003\000\000\000\000\000\000\004loss$\000\000\000\000\000\000\000\340\077\002lr$\000\232"
    "\231\231\231\231\231\271\077\005model<\000\012ResNet-18\011optimizer<\000\004SGD\004rank\027\000\000\000\000"
    "\000\000\000\000\000\004seed\027\000\000\000\000\000\000\000\000\000\004step\027\000d\000\000\000\000\000"
    "\000\000\012world_size\027\000\010\000\000\000\000\000\000\000\036\023blocks/0/norm1/bias\003\001\200\001"
    "\000\024\000\025blocks/0/norm1/weight\003\001\200\001\000\024\000\026blocks/0/attn/qkv/bias\003\001\200\003"
    "\000\024\000\030blocks/0/attn/qkv/weightC\002\200\003\200\001\004\215\006\000\000\000\024\000\027blocks/0/at"
    "tn/proj/bias\003\001\200\001\000\024\000\031blocks/0/attn/proj/weightC\002\200\001\200\001\004\215\006\000"
    "\000\000\024\000\025blocks/0/mlp/fc1/bias\003\001\200\004\000\024\000\027blocks/0/mlp/fc1/weightC\002\200"
    "\004\200\001\004\215\006\000\000\000\024\000\027blocks/0/mlp/fc2/weightC\002\200\001\200\004\004\215\006\000"
    "\000\000\024\000\011head/bias\003\001\012\000\024\000\013head/weightC\002\012\200\001\004\215\006\000\000"
    "\000\024\000\027layers/0/attn/norm/bias\003\001\200\001\000\024\000\033layers/0/attn/to_out/weightC\002\200"
    "\001\200\001\004\215\006\000\000\000\024\000\033layers/0/attn/to_qkv/weightC\002\200\003\200\001\004\215\006"
    "\000\000\000\024\000\026layers/0/ff/net/0/bias\003\001\200\001\000\024\000\030layers/0/ff/net/1/weightC\002"
    "\200\002\200\001\004\215\006\000\000\000\024\000\030layers/1/ff/net/3/weightC\002\200\001\200\002\004\215"
    "\006\000\000\000\024\000\011norm/bias\003\001\200\001\000\024\000\027patch_embed/proj/weightC\004\200\001"
    "\003\004\004\006\215\006\000\000\000\000\000\024\000\011pos_embedC\003\001A\200\001\005\215\006\000\000\000"
    "\000\024\000\033to_patch_embedding/1/weightC\002\200\0010\004\215\006\000\000\000\024\000\000\000\001\030x"
    "\001\007grad.h5\003\265\001\000\001\000\007worker0\021\020\001\004loss$\000\000\000\000\000\000\000\370\077"
    "\001\006\0011\021\020\001\004loss$\000\000\000\000\000\000\000\002@\001\000\000x\020\005\004data<\000\011Ima"
    "geNet\005dtype<\000\010float32\011framework<\000\016pytorch 2.1.0\004loss$\000\000\000\000\000\000\000\002@"
    "\005model<\000\012ResNet-50\004step\027\000\310\000\000\000\000\000\000\000\007workers\027\000\004\000\000"
    "\000\000\000\000\000;\020worker0/bn1/bias\003\001@\000\024\000\022worker0/bn1/weight\003\001@\000\024\000"
    "\024worker0/conv1/weightC\004@\003\003\003\006\215\006\000\000\000\000\000\024\000\017worker0/fc/bias\003"
    "\001\012\000\024\000\021worker0/fc/weightC\002\012@\004\215\006\000\000\000\024\000\031worker0/layer1/0/bn1/"
    "bias\003\001@\000\024\000\033worker0/layer1/0/bn1/weight\003\001@\000\024\000\031worker0/layer1/0/bn2/bias"
    "\003\001@\000\024\000\033worker0/layer1/0/bn2/weight\003\001@\000\024\000\035worker0/layer1/0/conv1/weightC"
    "\004@@\003\003\006\215\006\000\000\000\000\000\024\000\035worker0/layer1/0/conv2/weightC\004@@\003\003\006"
    "\215\006\000\000\000\000\000\024\000\031worker0/layer1/1/bn1/bias\003\001@\000\024\000$worker0/layer2/0/down"
    "sample/0/weightC\004\200\001@\001\001\006\215\006\000\000\000\000\000\024\000\042worker0/layer2/0/downsample"
    "/1/bias\003\001\200\001\000\024\000\042worker0/layer2/0/shortcut/0/weightC\004\200\001@\001\001\006\215\006"
    "\000\000\000\000\000\024\000\025worker0/linear/weightC\002\012@\004\215\006\000\000\000\024\000";
  return {text, sizeof text - 1};
}

}  // namespace jsq::wire
