"""Texts of compiled programs, for tests of what is read from them."""

# As XLA writes a program with a loop of 7 turns and two collectives, one of them in the loop.
PROGRAM = """HloModule jit_step

%f.1 (param_0: f32[8]) -> f32[8] {
  %param_0 = f32[8]{0} parameter(0)
  ROOT %add.9 = f32[8]{0} add(%param_0, %param_0), backend_config={"estimated_cycles":"9999"}
}

%b.2 (state: (s32[], bf16[4,128])) -> (s32[], bf16[4,128]) {
  %state = (s32[], bf16[4,128]{1,0}) parameter(0)
  %x = bf16[4,128]{1,0} get-tuple-element(%state), index=1
  %fusion.1 = bf16[4,128] fusion(%x), calls=%f.1, backend_config={"estimated_cycles":"100"}
  %all-reduce.3 = bf16[4,128]{1,0} all-reduce(%fusion.1), replica_groups={{0,1}}
  ROOT %tuple.1 = (s32[], bf16[4,128]{1,0}) tuple(%state, %all-reduce.3)
}

%c.2 (state.1: (s32[], bf16[4,128])) -> pred[] {
  %state.1 = (s32[], bf16[4,128]{1,0}) parameter(0)
  ROOT %less = pred[] compare(%state.1, %state.1), direction=LT
}

ENTRY %main.5 (p: bf16[4,128]) -> f32[8] {
  %p = bf16[4,128]{1,0} parameter(0)
  %ag = (bf16[2,128]{1,0}, bf16[4,128]{1,0}) all-gather-start(%p), dimensions={0}
  %done = bf16[4,128]{1,0} all-gather-done(%ag)
  %while.4 = bf16[4] while(%done), condition=%c.2, body=%b.2, config={"known_trip_count":{"n":"7"}}
  ROOT %fusion.2 = f32[8] fusion(%while.4), calls=%f.1, backend_config={"estimated_cycles":"30"}
}
"""
