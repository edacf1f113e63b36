;; Says hello: the smallest job there is.
;; It writes "hello from the mesh" to standard output and ends with exit code 0.
(module
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  ;; One buffer: 20 bytes at 16. How much was written goes to 8.
  (data (i32.const 0) "\10\00\00\00\14\00\00\00")
  (data (i32.const 16) "hello from the mesh\n")
  (func (export "_start")
    (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (call $proc_exit (i32.const 1))))))
