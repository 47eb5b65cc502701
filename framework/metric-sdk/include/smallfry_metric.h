/* C interface of metrics in shared libraries, version 1.

   A library defines one object, `smallfry_metrics`. The host reads `abi` and
   `size` first, and nothing else before both are right; loading runs no
   function of the interface.

   `evaluate` gets features of labelled images and sets `*value`. It returns 0
   when it has set the value; otherwise it writes a message with a final NUL to
   `error->text`, at most `error->capacity` bytes with the NUL, and returns
   another number. Every pointer it is given is valid until it returns. It must
   not throw, longjmp, end the program, change what it is given or keep a
   pointer. It may be called from several threads at once.

   In C++ a function that may throw goes into the table as
   `smallfry::caught<function>`: what it throws becomes the message.

   Fields that are added at the end of `smallfry_metric` or
   `smallfry_evaluation` do not change the version: the host looks at `size` of
   the library before it reads a field of an entry, and a metric looks at `size`
   of the evaluation before it reads a field that this header does not have. */
#ifndef SMALLFRY_METRIC_H
#define SMALLFRY_METRIC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMALLFRY_METRIC_ABI 1u

#ifdef _WIN32
#define SMALLFRY_METRIC_EXPORT __declspec(dllexport)
#else
#define SMALLFRY_METRIC_EXPORT __attribute__((visibility("default")))
#endif

/* The features of a data set, row-major, one row per image. `labels` has one
   entry per row, from 0, or is NULL where the set has no classes. */
typedef struct smallfry_features {
    size_t rows, columns;
    const float *values;
    const int64_t *labels;
} smallfry_features;

/* A number that the experiment file gives by name. A metric refuses names that
   it does not know. */
typedef struct smallfry_param {
    const char *name;
    double value;
} smallfry_param;

/* Where a failing metric leaves its message. */
typedef struct smallfry_error {
    char *text;
    size_t capacity;
} smallfry_error;

/* All that a metric may learn from. Texts are UTF-8. */
typedef struct smallfry_evaluation {
    size_t size;                      /* sizeof(smallfry_evaluation) of the host */
    const smallfry_features *train;   /* NULL where the experiment names no such set */
    const smallfry_features *test;
    const smallfry_features *views;   /* further views of the images of `test`, row by row */
    size_t view_count;                /* 0 where the set has one file for an image */
    const char *const *classes;       /* names of the classes, by label */
    size_t class_count;
    uint64_t seed;                    /* of anything that is sampled */
} smallfry_evaluation;

/* One metric. Texts are UTF-8. */
typedef struct smallfry_metric {
    const char *name;         /* its name in experiment files */
    const char *about;        /* what it is, in one line */
    const char *unit;         /* such as "%"; "" for a pure number */
    int32_t higher_is_better; /* 0 or 1 */
    /* `train` is NULL where the experiment names no such set. */
    int32_t (*evaluate)(const smallfry_param *params, size_t param_count,
                        const smallfry_features *train,
                        const smallfry_features *test,
                        double *value, smallfry_error *error);
    /* Called in place of `evaluate` unless it is NULL. A host that does not know
       it calls `evaluate`, which must be there too and may refuse. */
    int32_t (*evaluate_all)(const smallfry_param *params, size_t param_count,
                            const smallfry_evaluation *evaluation,
                            double *value, smallfry_error *error);
} smallfry_metric;

typedef struct smallfry_library {
    uint32_t abi;  /* SMALLFRY_METRIC_ABI */
    uint32_t size; /* sizeof(smallfry_metric), the distance between entries; at
                      least up to and with `evaluate` */
    size_t count;
    const smallfry_metric *metrics;
} smallfry_library;

extern SMALLFRY_METRIC_EXPORT const smallfry_library smallfry_metrics;

#ifdef __cplusplus
}

#include <exception>

namespace smallfry {

/* Leaves `text` as the message, as much of it as there is room for. */
inline void leave(const char *text, smallfry_error *error) noexcept {
    size_t length = 0;
    for (; length + 1 < error->capacity && text[length] != '\0'; length++) error->text[length] = text[length];
    if (error->capacity > 0) error->text[length] = '\0';
}

/* Calls `function`; an exception is a failure with its `what()` as the message. */
template <typename Function, typename... Arguments>
int32_t caught_from(Function function, smallfry_error *error, Arguments... arguments) noexcept {
    try {
        return function(arguments..., error);
    } catch (const std::exception &problem) {
        leave(problem.what(), error);
    } catch (...) {
        leave("threw something that is no std::exception", error);
    }
    return 1;
}

/* `function`, an `evaluate` that may throw, as one that does not. */
template <int32_t (*function)(const smallfry_param *, size_t, const smallfry_features *, const smallfry_features *,
                              double *, smallfry_error *)>
int32_t caught(const smallfry_param *params, size_t param_count, const smallfry_features *train,
               const smallfry_features *test, double *value, smallfry_error *error) noexcept {
    return caught_from(function, error, params, param_count, train, test, value);
}

/* The same for an `evaluate_all`. */
template <int32_t (*function)(const smallfry_param *, size_t, const smallfry_evaluation *, double *, smallfry_error *)>
int32_t caught(const smallfry_param *params, size_t param_count, const smallfry_evaluation *evaluation, double *value,
               smallfry_error *error) noexcept {
    return caught_from(function, error, params, param_count, evaluation, value);
}

} // namespace smallfry
#endif
#endif
