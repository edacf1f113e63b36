;; Takes memory until it is stopped: for the memory limit.
;; It grows by 1 MiB at a time and writes into what it got, so that the memory is really taken, and goes
;; on asking even when it is refused.
(module
  (memory (export "memory") 1)
  (func (export "_start")
    (local $pages i32)
    (loop $more
      (local.set $pages (memory.grow (i32.const 16)))
      (if (i32.ne (local.get $pages) (i32.const -1))
        (then
          (memory.fill
            (i32.shl (local.get $pages) (i32.const 16)) (i32.const 0x5a) (i32.const 0x100000))))
      (br $more))))
