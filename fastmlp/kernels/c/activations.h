// The non-linearities of kernels/activations.py: value and slope, chosen by number, their position in ACTIVATIONS.

enum { RELU, LEAKY_RELU, GELU, TANH, LOGISTIC, IDENTITY };

static inline REAL gelu_tanh(REAL s) {
    const REAL scale = (REAL)0.7978845608028654, cubic = (REAL)0.044715;    // sqrt(2 / pi); Hendrycks & Gimpel 2016
    return TANH_OF(scale * (s + cubic * s * s * s));
}

static inline REAL activation_value(int64_t kind, REAL s) {
    switch (kind) {
        case RELU:       return s < 0 ? 0 : s;                              // keeps NaN, as the reference does
        case LEAKY_RELU: return s < 0 ? (REAL)0.01 * s : s;
        case GELU:       return (REAL)0.5 * s * (1 + gelu_tanh(s));
        case TANH:       return TANH_OF(s);
        case LOGISTIC:   return (REAL)0.5 + (REAL)0.5 * TANH_OF((REAL)0.5 * s);
        default:         return s;
    }
}

static inline REAL activation_slope(int64_t kind, REAL s, REAL y) {
    switch (kind) {
        case RELU:       return y > 0 ? 1 : 0;
        case LEAKY_RELU: return y > 0 ? 1 : (REAL)0.01;
        case GELU: {
            const REAL scale = (REAL)0.7978845608028654, cubic = (REAL)0.044715;
            REAL t = gelu_tanh(s);
            return (REAL)0.5 * (1 + t) + (REAL)0.5 * s * (1 - t * t) * scale * (1 + 3 * cubic * s * s);
        }
        case TANH:       return 1 - y * y;
        case LOGISTIC:   return y * (1 - y);
        default:         return 1;
    }
}

// Run the statement with `kind` a constant for the compiler where that makes a loop a vector loop.
#define FOR_KIND(number, ...) do {                                                                          \
        if ((number) == RELU) { enum { kind = RELU }; __VA_ARGS__; }                                        \
        else if ((number) == LEAKY_RELU) { enum { kind = LEAKY_RELU }; __VA_ARGS__; }                       \
        else { const int64_t kind = (number); __VA_ARGS__; }                                                \
    } while (0)
