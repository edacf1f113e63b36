/* Traces a picture: the example of a job that is worth splitting.
 *
 * Spheres on a polished floor at dusk: reflections, refraction, soft shadows, a lens with depth of field. Every
 * pixel draws its random numbers from a seed of its own, so a picture that is put together from tiles has the
 * same bytes as one that was made whole, whoever made the tiles and however they were cut.
 *
 * Usage: render [--size WxH] [--samples N] [--grid CxR --tile I]
 *   --size WxH      of the whole picture, in pixels: at most 8192 each            [480x320]
 *   --samples N     rays per pixel, 1 to 4096                                     [16]
 *   --grid CxR      into how many columns and rows it is cut, at most 256 each    [1x1]
 *   --tile I        which piece to make, counted row by row from 0                [the whole picture]
 * It writes /output/picture.ppm (binary PPM: a header of one line, then red, green and blue bytes).
 * Exit codes: 0 done, 1 could not be written, 2 wrong usage.
 *
 * Build: ./build.sh
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUTPUT "/output/picture.ppm"
#define SIDE_MAX 8192
#define SAMPLES_MAX 4096
#define GRID_MAX 256
/* What one job may leave in one file is 16 MiB; a longer picture has to be cut. */
#define FILE_BYTES_MAX (16l * 1024 * 1024 - 64)
#define BOUNCES_MAX 7
#define SPHERES_MAX 96
#define TINY 1e-5
#define FAR 1e30

/* --- vectors ------------------------------------------------------------------------------------------ */

typedef struct {
    double x, y, z;
} vec;

static vec v(double x, double y, double z) { return (vec){x, y, z}; }
static vec add(vec a, vec b) { return v(a.x + b.x, a.y + b.y, a.z + b.z); }
static vec sub(vec a, vec b) { return v(a.x - b.x, a.y - b.y, a.z - b.z); }
static vec mul(vec a, vec b) { return v(a.x * b.x, a.y * b.y, a.z * b.z); }
static vec scale(vec a, double s) { return v(a.x * s, a.y * s, a.z * s); }
static double dot(vec a, vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static vec cross(vec a, vec b) {
    return v(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}
static vec unit(vec a) { return scale(a, 1 / sqrt(dot(a, a))); }
static vec mix(vec a, vec b, double t) { return add(scale(a, 1 - t), scale(b, t)); }
static double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* --- chance: the same for a pixel wherever it is made ---------------------------------------------------- */

typedef struct {
    uint64_t state;
} chance;

static uint64_t scramble(uint64_t x) { /* splitmix64 */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* From 0 up to but not including 1. */
static double draw(chance *c) {
    c->state += 0x9e3779b97f4a7c15u;
    return (double)(scramble(c->state) >> 11) * 0x1p-53;
}

/* Uniform in the unit disk, by trying; no sine or cosine. */
static void draw_disk(chance *c, double *x, double *y) {
    do {
        *x = 2 * draw(c) - 1;
        *y = 2 * draw(c) - 1;
    } while (*x * *x + *y * *y >= 1);
}

static vec draw_sphere(chance *c) {
    for (;;) {
        vec p = v(2 * draw(c) - 1, 2 * draw(c) - 1, 2 * draw(c) - 1);
        double square = dot(p, p);
        if (square < 1 && square > 1e-6) {
            return scale(p, 1 / sqrt(square));
        }
    }
}

/* --- the scene ------------------------------------------------------------------------------------------ */

enum material { LACQUER, METAL, GLASS, LAMP };

typedef struct {
    vec centre;
    double radius;
    vec colour;
    enum material material;
    double roughness;
} sphere;

static sphere spheres[SPHERES_MAX];
static int sphere_count;
static vec sun; /* towards it */

static void put(vec centre, double radius, vec colour, enum material material, double roughness) {
    if (sphere_count < SPHERES_MAX) {
        spheres[sphere_count++] = (sphere){centre, radius, colour, material, roughness};
    }
}

static const vec palette[] = {
    {0.90, 0.22, 0.16}, {0.96, 0.52, 0.10}, {0.98, 0.76, 0.20}, {0.16, 0.58, 0.50},
    {0.10, 0.36, 0.66}, {0.42, 0.20, 0.56}, {0.88, 0.34, 0.48}, {0.93, 0.91, 0.86},
};

static void build_scene(void) {
    sun = unit(v(-0.62, 0.46, -0.38));
    put(v(0.05, 1.0, 0.35), 1.0, v(0.97, 0.96, 0.95), METAL, 0);
    put(v(-1.95, 0.72, 0.10), 0.72, v(0.88, 0.20, 0.13), LACQUER, 0);
    put(v(1.72, 0.62, -0.52), 0.62, v(0.98, 0.99, 1.0), GLASS, 0);
    put(v(2.55, 0.85, 1.60), 0.85, v(0.98, 0.72, 0.34), METAL, 0.07);
    put(v(-0.72, 0.30, -1.35), 0.30, v(0.09, 0.40, 0.62), LACQUER, 0);
    put(v(-3.3, 1.05, 2.9), 1.05, v(0.12, 0.52, 0.46), LACQUER, 0);

    /* The small ones lie on a sunflower's spiral, each where it touches nobody. */
    double along = 1, across = 0;
    const double turn_cos = -0.7373688780783198, turn_sin = 0.6754902942615238; /* the golden angle */
    uint64_t seed = 7;
    for (int number = 1; number <= 190 && sphere_count < SPHERES_MAX - 1; number++) {
        double next = along * turn_cos - across * turn_sin;
        across = along * turn_sin + across * turn_cos;
        along = next;
        seed = scramble(seed);
        double radius = 0.10 + 0.13 * (double)(seed & 0xff) / 255;
        double distance = 0.52 * sqrt((double)number) + 0.25;
        vec centre = v(along * distance, radius, across * distance + 0.5);
        int is_free = centre.z > -2.4 && centre.z < 7;
        for (int other = 0; other < sphere_count; other++) {
            vec apart = sub(centre, spheres[other].centre);
            double least = radius + spheres[other].radius + 0.03;
            is_free = is_free && dot(apart, apart) > least * least;
        }
        if (!is_free) {
            continue;
        }
        vec colour = palette[(seed >> 8) % (sizeof palette / sizeof *palette)];
        unsigned kind = (unsigned)(seed >> 16) % 16;
        if (kind == 0) {
            put(centre, radius, v(0.97, 0.99, 0.98), GLASS, 0);
        } else if (kind < 4) {
            put(centre, radius, mix(colour, v(1, 1, 1), 0.25), METAL, 0.04);
        } else if (kind == 4) {
            put(centre, radius, v(3.4, 2.3, 1.25), LAMP, 0);
        } else {
            put(centre, radius, colour, LACQUER, 0);
        }
    }
}

static vec sky(vec direction) {
    double height = clamp(direction.y, 0, 1);
    vec low = v(1.00, 0.55, 0.30), middle = v(0.50, 0.40, 0.58), high = v(0.07, 0.14, 0.36);
    vec colour = height < 0.16 ? mix(low, middle, height / 0.16) : mix(middle, high, sqrt((height - 0.16) / 0.84));
    double towards = clamp(dot(direction, sun), 0, 1);
    double glow = towards * towards;
    glow *= glow;
    glow *= glow; /* to the eighth */
    colour = add(colour, scale(v(0.95, 0.52, 0.20), 0.55 * glow));
    if (towards > 0.9975) {
        colour = add(colour, v(9, 6.6, 4.2)); /* its disk, seen in mirrors */
    }
    return colour;
}

/* --- rays ----------------------------------------------------------------------------------------------- */

typedef struct {
    double distance;
    vec point, normal;
    int sphere; /* -1: the floor */
} hit;

/* The nearest of the spheres in front, or -1. */
static int nearest(vec from, vec along, double *distance) {
    int found = -1;
    for (int number = 0; number < sphere_count; number++) {
        const sphere *s = &spheres[number];
        vec apart = sub(s->centre, from);
        double middle = dot(apart, along);
        double square = middle * middle - dot(apart, apart) + s->radius * s->radius;
        if (square <= 0) {
            continue;
        }
        double half = sqrt(square);
        double at = middle - half;
        if (at < TINY) {
            at = middle + half;
        }
        if (at > TINY && at < *distance) {
            *distance = at;
            found = number;
        }
    }
    return found;
}

static int trace(vec from, vec along, hit *out) {
    double distance = FAR;
    int is_floor = 0;
    if (along.y < -1e-9 && from.y > TINY) {
        distance = -from.y / along.y;
        is_floor = 1;
    }
    int number = nearest(from, along, &distance);
    if (number < 0 && !is_floor) {
        return 0;
    }
    out->distance = distance;
    out->point = add(from, scale(along, distance));
    out->sphere = number;
    out->normal = number < 0 ? v(0, 1, 0)
                             : scale(sub(out->point, spheres[number].centre), 1 / spheres[number].radius);
    return 1;
}

/* How much of the sun, which is a disk, is seen from here: one look, so shadows have soft edges. */
static double sunlight(vec from, vec normal, chance *c) {
    vec towards = unit(add(sun, scale(draw_sphere(c), 0.055)));
    double slope = dot(normal, towards);
    if (slope <= 0) {
        return 0;
    }
    double distance = FAR;
    double light = slope;
    int number = nearest(from, towards, &distance);
    if (number >= 0) {
        /* Glass lets some through; the bright spot behind it is left to chance that is not spent here. */
        light = spheres[number].material == GLASS ? slope * 0.45 : 0;
    }
    return light;
}

static vec floor_colour(vec point) {
    long cell = (long)floor(point.x * 0.8 + 0.31) + (long)floor(point.z * 0.8);
    vec colour = (cell & 1) != 0 ? v(0.74, 0.68, 0.60) : v(0.05, 0.06, 0.10);
    /* Far away the squares are smaller than a pixel: there it is what they are on average. */
    return mix(colour, v(0.40, 0.37, 0.35), clamp((sqrt(dot(point, point)) - 8) / 22, 0, 1));
}

/* How much a polished surface mirrors at this angle (Schlick). */
static double mirrored(double cosine, double straight) {
    double rest = 1 - clamp(cosine, 0, 1);
    double square = rest * rest;
    return straight + (1 - straight) * square * square * rest;
}

static vec radiance(vec from, vec along, chance *c) {
    static const vec sun_colour = {3.0, 2.0, 1.2};
    vec light = v(0, 0, 0), share = v(1, 1, 1);
    for (int bounce = 0; bounce < BOUNCES_MAX; bounce++) {
        hit at;
        if (!trace(from, along, &at)) {
            vec seen = sky(along);
            /* What scattered has counted the sun already. */
            return add(light, mul(share, seen));
        }
        const sphere *s = at.sphere < 0 ? NULL : &spheres[at.sphere];
        if (s != NULL && s->material == LAMP) {
            double facing = clamp(-dot(along, at.normal), 0, 1);
            return add(light, mul(share, scale(s->colour, 0.55 + 0.45 * facing)));
        }
        double cosine = -dot(along, at.normal);
        vec reflected = add(along, scale(at.normal, 2 * cosine));
        if (s != NULL && s->material == GLASS) {
            int is_entering = cosine > 0;
            vec normal = is_entering ? at.normal : scale(at.normal, -1);
            double ratio = is_entering ? 1 / 1.5 : 1.5;
            double facing = fabs(cosine);
            double under = 1 - ratio * ratio * (1 - facing * facing);
            double mirror = under <= 0 ? 1 : mirrored(is_entering ? facing : sqrt(under), 0.04);
            from = at.point;
            if (draw(c) < mirror) {
                along = unit(reflected);
            } else {
                along = unit(add(scale(along, ratio), scale(normal, ratio * facing - sqrt(under))));
                share = mul(share, s->colour);
            }
            continue;
        }
        from = add(at.point, scale(at.normal, TINY));
        if (s != NULL && s->material == METAL) {
            along = unit(add(reflected, scale(draw_sphere(c), s->roughness)));
            if (dot(along, at.normal) <= 0) {
                along = unit(reflected);
            }
            share = mul(share, mix(s->colour, v(1, 1, 1), mirrored(cosine, 0)));
            continue;
        }
        /* Lacquer and floor: a clear coat that mirrors at flat angles, colour beneath. */
        double mirror = mirrored(cosine, s == NULL ? 0.07 : 0.045);
        if (draw(c) < mirror) {
            along = unit(s == NULL ? add(reflected, scale(draw_sphere(c), 0.02)) : reflected);
            if (dot(along, at.normal) <= 0) {
                along = unit(reflected);
            }
            continue;
        }
        share = mul(share, s == NULL ? floor_colour(at.point) : s->colour);
        light = add(light, mul(share, scale(sun_colour, sunlight(from, at.normal, c))));
        vec scattered = add(at.normal, draw_sphere(c));
        if (dot(scattered, scattered) < 1e-9) {
            scattered = at.normal;
        }
        along = unit(scattered);
        if (bounce > 1) {
            double keep = clamp(share.x > share.y ? share.x : share.y, 0.1, 0.95);
            if (draw(c) >= keep) {
                break;
            }
            share = scale(share, 1 / keep);
        }
    }
    return light;
}

/* --- the camera and the film ------------------------------------------------------------------------------ */

typedef struct {
    long width, height, samples;
} picture;

static vec pixel(const picture *of, long x, long y) {
    const vec eye = v(0.35, 1.75, -6.6), target = v(0.12, 0.62, 0.0);
    const double lens = 0.055, field = 0.335;
    vec forward = unit(sub(target, eye));
    vec right = unit(cross(v(0, 1, 0), forward));
    vec up = cross(forward, right);
    double focus = dot(sub(v(0.05, 1.0, -0.6), eye), forward);
    double pitch = 2 * field / (double)of->height;
    long side = 1;
    while ((side + 1) * (side + 1) <= of->samples) {
        side++;
    }
    vec sum = v(0, 0, 0);
    for (long sample = 0; sample < of->samples; sample++) {
        chance c = {scramble(scramble((uint64_t)y << 32 | (uint64_t)x) ^ (uint64_t)sample)};
        /* The first ones each in a cell of their own, so that edges are smooth; what is over falls anywhere. */
        double within_x = draw(&c), within_y = draw(&c);
        if (sample < side * side) {
            within_x = ((double)(sample % side) + within_x) / (double)side;
            within_y = ((double)(sample / side) + within_y) / (double)side;
        }
        double sideways = ((double)x + within_x - 0.5 * (double)of->width) * pitch;
        double upwards = (0.5 * (double)of->height - (double)y - within_y) * pitch;
        vec aim = add(forward, add(scale(right, sideways), scale(up, upwards)));
        double lens_x, lens_y;
        draw_disk(&c, &lens_x, &lens_y);
        vec shift = add(scale(right, lens_x * lens), scale(up, lens_y * lens));
        vec seen = radiance(add(eye, shift), unit(sub(scale(aim, focus), shift)), &c);
        /* A rare ray that is a hundred times brighter is a speck, not light. */
        sum.x += clamp(seen.x, 0, 12);
        sum.y += clamp(seen.y, 0, 12);
        sum.z += clamp(seen.z, 0, 12);
    }
    return scale(sum, 1 / (double)of->samples);
}

/* Light to a byte: a film's curve, then the screen's (its square root is near enough, and exact everywhere). */
static unsigned char develop(double light) {
    double exposed = light * 0.62;
    double film = exposed * (2.51 * exposed + 0.03) / (exposed * (2.43 * exposed + 0.59) + 0.14);
    return (unsigned char)(sqrt(clamp(film, 0, 1)) * 255 + 0.5);
}

/* --- arguments -------------------------------------------------------------------------------------------- */

__attribute__((noreturn, format(printf, 1, 2))) static void wrong(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("render: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\nusage: render [--size WxH] [--samples N] [--grid CxR --tile I]\n", stderr);
    va_end(arguments);
    exit(2);
}

/* Reads a number at `text`, from `low` to `high`; gives what follows it. */
static const char *number(const char *name, const char *text, long low, long high, long *out) {
    const char *at = text;
    long value = 0;
    while (*at >= '0' && *at <= '9' && value <= high) {
        value = value * 10 + (*at++ - '0');
    }
    if (at == text || value < low || value > high) {
        wrong("%s %s: a number from %ld to %ld is needed", name, text, low, high);
    }
    *out = value;
    return at;
}

static void one(const char *name, const char *text, long low, long high, long *out) {
    if (*number(name, text, low, high, out) != '\0') {
        wrong("%s %s: not a number", name, text);
    }
}

static void pair(const char *name, const char *text, long high, long *first, long *second) {
    const char *rest = number(name, text, 1, high, first);
    if (*rest != 'x') {
        wrong("%s %s: two numbers with an x between them are needed", name, text);
    }
    one(name, rest + 1, 1, high, second);
}

static void failed(void) {
    fprintf(stderr, "render: %s: %s\n", OUTPUT, strerror(errno));
    exit(1);
}

int main(int argc, char **argv) {
    picture of = {480, 320, 16};
    long columns = 1, rows = 1, tile = -1;
    for (int at = 1; at < argc; at += 2) {
        const char *name = argv[at], *value = argv[at + 1];
        if (value == NULL) {
            wrong("%s: a value is missing", name);
        }
        if (strcmp(name, "--size") == 0) {
            pair(name, value, SIDE_MAX, &of.width, &of.height);
        } else if (strcmp(name, "--samples") == 0) {
            one(name, value, 1, SAMPLES_MAX, &of.samples);
        } else if (strcmp(name, "--grid") == 0) {
            pair(name, value, GRID_MAX, &columns, &rows);
        } else if (strcmp(name, "--tile") == 0) {
            one(name, value, 0, GRID_MAX * GRID_MAX - 1, &tile);
        } else {
            wrong("%s: unknown", name);
        }
    }
    if (tile < 0) {
        columns = rows = 1;
        tile = 0;
    }
    if (tile >= columns * rows) {
        wrong("--tile %ld: a grid of %ldx%ld has tiles 0 to %ld", tile, columns, rows, columns * rows - 1);
    }
    if (columns > of.width || rows > of.height) {
        wrong("--grid %ldx%ld: finer than the picture's pixels", columns, rows);
    }
    long column = tile % columns, row = tile / columns;
    long left = of.width * column / columns, right = of.width * (column + 1) / columns;
    long top = of.height * row / rows, bottom = of.height * (row + 1) / rows;
    long width = right - left, height = bottom - top;
    if (width * height > FILE_BYTES_MAX / 3) {
        wrong("%ldx%ld pixels do not fit into one file; cut the picture with --grid and --tile", width, height);
    }

    build_scene();
    static unsigned char line[3 * SIDE_MAX];
    FILE *out = fopen(OUTPUT, "wb");
    if (out == NULL) {
        failed();
    }
    fprintf(out, "P6 %ld %ld 255\n", width, height);
    for (long y = top; y < bottom; y++) {
        unsigned char *to = line;
        for (long x = left; x < right; x++) {
            vec light = pixel(&of, x, y);
            *to++ = develop(light.x);
            *to++ = develop(light.y);
            *to++ = develop(light.z);
        }
        if (fwrite(line, 3, (size_t)width, out) != (size_t)width) {
            failed();
        }
    }
    if (fclose(out) != 0) {
        failed();
    }
    printf("%ldx%ld pixels at %ld,%ld\n", width, height, left, top);
    return 0;
}
