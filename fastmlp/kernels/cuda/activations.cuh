// The non-linearities of kernels/activations.py: value and slope, chosen by number.
//
// REAL is float or double. The numbers are the positions in ACTIVATIONS; a test compares every one with the reference.

enum Activation { RELU, LEAKY_RELU, GELU, TANH, LOGISTIC, IDENTITY };

__device__ inline REAL gelu_tanh(REAL s) {
    const REAL scale = REAL(0.7978845608028654), cubic = REAL(0.044715);    // sqrt(2 / pi); Hendrycks & Gimpel 2016
    return tanh(scale * (s + cubic * s * s * s));
}

__device__ inline REAL activation_value(int kind, REAL s) {
    switch (kind) {
        case RELU:       return s < 0 ? REAL(0) : s;                        // keeps NaN, as the reference does
        case LEAKY_RELU: return s < 0 ? REAL(0.01) * s : s;
        case GELU:       return REAL(0.5) * s * (1 + gelu_tanh(s));
        case TANH:       return tanh(s);
        case LOGISTIC:   return REAL(0.5) + REAL(0.5) * tanh(REAL(0.5) * s);
        default:         return s;
    }
}

__device__ inline REAL activation_slope(int kind, REAL s, REAL y) {
    switch (kind) {
        case RELU:       return y > 0 ? REAL(1) : REAL(0);
        case LEAKY_RELU: return y > 0 ? REAL(1) : REAL(0.01);
        case GELU: {
            const REAL scale = REAL(0.7978845608028654), cubic = REAL(0.044715);
            REAL t = gelu_tanh(s);
            return REAL(0.5) * (1 + t) + REAL(0.5) * s * (1 - t * t) * scale * (1 + 3 * cubic * s * s);
        }
        case TANH:       return 1 - y * y;
        case LOGISTIC:   return y * (1 - y);
        default:         return REAL(1);
    }
}
