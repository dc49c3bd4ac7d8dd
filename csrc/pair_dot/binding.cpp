// torch.ops.maskformer_ext.pair_dot and pair_dot_backward: mask logits of matched queries only, one product per image.
//
// The pairs of a batch lie sorted by image, so those of an image are one matrix. The kernel is mask_dot's. The gradient
// of the embeddings sums over all pixels; it is torch's product.
#include <algorithm>
#include <tuple>
#include <vector>

#include "mask_dot/call.h"
#include "pair_dot/call.h"

namespace maskformer_ext {
namespace {

constexpr const char* op = "pair_dot";

struct Span {
  int64_t image, begin, end;  // image -1: rows that are no pair
};

std::vector<Span> spans_of(const Tensor& image_index_in, int64_t pairs, int64_t images) {
  check_dtype(image_index_in, ScalarType::Long, op, "image_index");
  STD_TORCH_CHECK(image_index_in.dim() == 1 && image_index_in.size(0) == pairs, op, ": image_index must be (", pairs,
                  ",), got ", shape_string(image_index_in));
  const Tensor image_index = torch::stable::contiguous(image_index_in);
  const int64_t* image = image_index.const_data_ptr<int64_t>();
  std::vector<Span> spans;
  for (int64_t begin = 0; begin < pairs;) {
    int64_t end = begin;
    while (end < pairs && image[end] == image[begin]) ++end;
    const int64_t before = spans.empty() ? -1 : spans.back().image;
    const bool fits = image[begin] == -1 ? end == pairs : image[begin] > before && image[begin] < images;
    STD_TORCH_CHECK(fits, op, ": image_index must ascend within [0, ", images, "), then be -1, got ", image[begin],
                    " in row ", begin);
    spans.push_back({image[begin], begin, end});
    begin = end;
  }
  return spans;
}

// Rows [begin, end) of (P, L, n) as a matrix.
Tensor rows_of(const Tensor& tensor, const Span& span) {
  const int64_t count = span.end - span.begin;
  const Tensor rows = torch::stable::narrow(const_cast<Tensor&>(tensor), 0, span.begin, count);
  return torch::stable::view(rows, {count * tensor.size(1), tensor.size(2)});
}

// (rows, depth) times (depth, columns), into `out` of dtype.
void multiply(const Tensor& rows, const Tensor& matrix, void* out, DType dtype) {
  const DotTensors dot(op, torch::stable::unsqueeze(rows, 0),
                       torch::stable::unsqueeze(torch::stable::unsqueeze(matrix, 0), 2));
  run_mask_dot(dot, MaskDotActivation::none, out, dtype);
}

Tensor pair_dot_cpu(const Tensor& embed_in, const Tensor& features, const Tensor& image_index,
                    bool /* allow_tf32: products are float32 here */) {
  check_pairs(op, embed_in, features);
  const Tensor embed = torch::stable::contiguous(embed_in);
  const int64_t pairs = embed.size(0), layers = embed.size(1), pixels = features.size(2);
  Tensor out = torch::stable::new_empty(embed, {pairs, layers, pixels});
  const DType dtype = floating_dtype(out, op, "embed");
  char* data = static_cast<char*>(out.mutable_data_ptr());
  const int64_t row_bytes = layers * pixels * dtype_size(dtype);
  for (const Span& span : spans_of(image_index, pairs, features.size(0))) {
    char* to = data + span.begin * row_bytes;
    if (span.image < 0) {
      std::fill_n(to, (span.end - span.begin) * row_bytes, 0);
    } else if (layers * pixels > 0) {
      multiply(rows_of(embed, span), torch::stable::select(features, 0, span.image), to, dtype);
    }
  }
  return out;
}

std::tuple<Tensor, Tensor> pair_dot_backward_cpu(const Tensor& grad_in, const Tensor& embed_in, const Tensor& features,
                                                 const Tensor& image_index, bool /* allow_tf32 */) {
  check_pairs(op, embed_in, features);
  const Tensor grad = torch::stable::contiguous(grad_in), embed = torch::stable::contiguous(embed_in);
  Tensor grad_embed = torch::stable::empty_like(embed), grad_features = torch::stable::empty_like(features);
  torch::stable::zero_(grad_embed);
  torch::stable::zero_(grad_features);
  const DType dtype = floating_dtype(features, op, "features");
  for (const Span& span : spans_of(image_index, embed.size(0), features.size(0))) {
    if (span.image < 0 || grad.numel() == 0) continue;
    const Tensor rows = rows_of(grad, span), pair_embed = rows_of(embed, span);
    const Tensor of_image = torch::stable::select(features, 0, span.image);
    Tensor to = rows_of(grad_embed, span);
    torch::stable::copy_(to, torch::stable::matmul(rows, torch::stable::transpose(of_image, 0, 1)));
    Tensor grad_image = torch::stable::select(grad_features, 0, span.image);
    if (grad_image.is_contiguous()) {  // every channel is a row
      multiply(torch::stable::transpose(pair_embed, 0, 1), rows, grad_image.mutable_data_ptr(), dtype);
    } else {  // channels-last features get channels-last gradients
      const Tensor product = torch::stable::matmul(torch::stable::transpose(rows, 0, 1), pair_embed);
      torch::stable::copy_(grad_image, torch::stable::transpose(product, 0, 1));
    }
  }
  return {grad_embed, grad_features};
}

STABLE_TORCH_LIBRARY_FRAGMENT(maskformer_ext, library) {
  library.def("pair_dot(Tensor embed, Tensor features, Tensor image_index, bool allow_tf32=False) -> Tensor");
  library.def(
      "pair_dot_backward(Tensor grad, Tensor embed, Tensor features, Tensor image_index, bool allow_tf32=False) "
      "-> (Tensor grad_embed, Tensor grad_features)");
}
STABLE_TORCH_LIBRARY_IMPL(maskformer_ext, CPU, library) {
  library.impl("pair_dot", TORCH_BOX(&pair_dot_cpu));
  library.impl("pair_dot_backward", TORCH_BOX(&pair_dot_backward_cpu));
}

}  // namespace
}  // namespace maskformer_ext
