/* Counts words: the example of a real job.
 *
 * It reads every regular file below /input, or standard input if there is no
 * /input, prints the most frequent words to standard output and writes all of them to
 * /output/counts.txt, as "count<TAB>word" lines, most frequent first and then by the alphabet.
 *
 * A word is a run of ASCII letters, digits and bytes above 127 (so that UTF-8 words stay whole), with
 * apostrophes inside; ASCII letters are made small.
 *
 * Usage: wordcount [TOP]     TOP is how many words to print, 10 if absent.
 * Exit codes: 0 done, 1 something could not be read or written, 2 nothing to read, 64 wrong usage.
 *
 * Build: ./build.sh
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WORD_BYTES_MAX 64 /* a longer word is cut; what follows belongs to it still */

struct word {
    char *text;
    uint64_t count;
};

/* Open addressing; the size is a power of two and at most three quarters are used. */
static struct word *table;
static size_t table_size;
static size_t word_count;
static uint64_t total_count;
static uint64_t total_bytes;

static void die(const char *what) {
    fprintf(stderr, "wordcount: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) {
        errno = ENOMEM;
        die("words");
    }
    return memory;
}

static struct word *place(struct word *in, size_t size, const char *text) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (const char *at = text; *at != '\0'; at++) {
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    }
    size_t slot = (size_t)hash & (size - 1);
    while (in[slot].text != NULL && strcmp(in[slot].text, text) != 0) {
        slot = (slot + 1) & (size - 1);
    }
    return &in[slot];
}

static void grow(void) {
    size_t size = table_size == 0 ? 1024 : table_size * 2;
    struct word *larger = allocate(size, sizeof *larger);
    for (size_t slot = 0; slot < table_size; slot++) {
        if (table[slot].text != NULL) {
            *place(larger, size, table[slot].text) = table[slot];
        }
    }
    free(table);
    table = larger;
    table_size = size;
}

static void add(const char *text, size_t length) {
    if ((word_count + 1) * 4 > table_size * 3) {
        grow();
    }
    struct word *word = place(table, table_size, text);
    if (word->text == NULL) {
        word->text = allocate(length + 1, 1);
        memcpy(word->text, text, length);
        word_count++;
    }
    word->count++;
    total_count++;
}

static int is_word_byte(int byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte >= 128;
}

static void count_words(FILE *from, const char *name) {
    static char buffer[64 * 1024];
    char word[WORD_BYTES_MAX + 1];
    size_t length = 0;
    size_t got;
    while ((got = fread(buffer, 1, sizeof buffer, from)) > 0) {
        total_bytes += got;
        for (size_t at = 0; at < got; at++) {
            int byte = (unsigned char)buffer[at];
            if (byte >= 'A' && byte <= 'Z') {
                byte += 'a' - 'A';
            }
            if (is_word_byte(byte) || (byte == '\'' && length > 0)) {
                if (length < WORD_BYTES_MAX) {
                    word[length++] = (char)byte;
                }
                continue;
            }
            while (length > 0 && word[length - 1] == '\'') {
                length--;
            }
            if (length > 0) {
                word[length] = '\0';
                add(word, length);
                length = 0;
            }
        }
    }
    if (ferror(from)) {
        die(name);
    }
    while (length > 0 && word[length - 1] == '\'') {
        length--;
    }
    if (length > 0) {
        word[length] = '\0';
        add(word, length);
    }
}

/* Counts the files below a directory; gives -1 if there is none such, else how many were read. */
static int count_directory(const char *name) {
    DIR *directory = opendir(name);
    if (directory == NULL) {
        return -1;
    }
    int file_count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        char path[1024];
        struct stat status;
        int length = snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
        if (length < 0 || (size_t)length >= sizeof path || stat(path, &status) != 0) {
            continue;
        }
        if (S_ISDIR(status.st_mode)) {
            int deeper = count_directory(path);
            file_count += deeper > 0 ? deeper : 0;
        } else if (S_ISREG(status.st_mode)) {
            FILE *file = fopen(path, "rb");
            if (file == NULL) {
                die(path);
            }
            count_words(file, path);
            fclose(file);
            file_count++;
        }
    }
    closedir(directory);
    return file_count;
}

static int by_count_then_text(const void *left, const void *right) {
    const struct word *a = left;
    const struct word *b = right;
    if (a->count != b->count) {
        return a->count < b->count ? 1 : -1;
    }
    return strcmp(a->text, b->text);
}

int main(int argc, char **argv) {
    unsigned long top = 10;
    if (argc > 1) {
        char *end;
        errno = 0;
        top = strtoul(argv[1], &end, 10);
        if (argc > 2 || errno != 0 || *argv[1] < '0' || *argv[1] > '9' || *end != '\0') {
            fprintf(stderr, "usage: wordcount [TOP]\n");
            return 64;
        }
    }

    int file_count = count_directory("/input");
    if (file_count < 0) {
        count_words(stdin, "standard input");
    }
    if (total_bytes == 0) {
        fprintf(stderr, "wordcount: nothing to read\n");
        return 2;
    }

    size_t used = 0;
    for (size_t slot = 0; slot < table_size; slot++) {
        if (table[slot].text != NULL) {
            table[used++] = table[slot];
        }
    }
    if (used > 0) {
        qsort(table, used, sizeof *table, by_count_then_text);
    }

    FILE *counts = fopen("/output/counts.txt", "wb");
    if (counts == NULL) {
        die("/output/counts.txt");
    }
    printf("%llu words, %zu different\n", (unsigned long long)total_count, word_count);
    for (size_t at = 0; at < used; at++) {
        if (at < top) {
            printf("%8llu  %s\n", (unsigned long long)table[at].count, table[at].text);
        }
        fprintf(counts, "%llu\t%s\n", (unsigned long long)table[at].count, table[at].text);
    }
    if (ferror(counts) || fclose(counts) != 0) {
        die("/output/counts.txt");
    }
    if (fflush(stdout) != 0) {
        die("standard output");
    }
    return 0;
}
